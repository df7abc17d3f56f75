-- What the scripts of a scope share. Redis has no modules: the program puts this text in front of each.
--
-- KEYS: 1 meta, 2 sales, 3 counters, 4 orders, 5 people, 6 outbox, 7 versions, 8 granted
-- ARGV: 1 the run id of the server, as the caller's connection knows it
-- Returns: every script answers {'ok', …}, or {'fenced', reason} and has done nothing
-- Keeps: whoever reads a hash through `read` notices if the key is lost: each has a field '#', which no name can be

local META, SALES, COUNTERS, ORDERS, PEOPLE, OUTBOX, VERSIONS, GRANTED = unpack(KEYS)
local MARK = '#'
-- `unpack` and `redis.call` take just under 8000 values. Even, so that it never parts a field from its value.
local CHUNK = 7000
-- One order in a person's entry: 32 digits of its id, 2 of its units.
local PART = 34
-- Digits of an order id that say which order it may be.
local HINT = 12

-- What was found wrong while reading. Every script looks at it before its first write.
local broken = nil

-- Why nothing may be done in this scope; nil if it is open.
local function closed()
  local meta = redis.call('HMGET', META, 'state', 'run_id', 'reason')
  if not meta[1] then return 'it is not there' end
  if meta[1] ~= 'open' then return 'it is ' .. meta[1] .. (meta[3] and ': ' .. meta[3] or '') end
  if meta[2] ~= ARGV[1] then return 'it was opened in another run of the server' end
  return nil
end

local function fence(reason)
  redis.call('HSET', META, 'state', 'fenced', 'reason', reason)
  return { 'fenced', reason }
end

-- The values of one chunk of a list, which asks for the mark beside them.
local function read_chunk(key, list, first, last)
  local after = list[last + 1]
  list[last + 1] = MARK
  local values = redis.call('HMGET', key, unpack(list, first, last + 1))
  list[last + 1] = after
  if not values[#values] then broken = key .. ' is lost' end
  values[#values] = nil
  return values
end

-- The values of list[from..to] in a hash; false where there is none.
local function read(key, list, from, to)
  local values = {}
  for first = from, to, CHUNK do
    local chunk = read_chunk(key, list, first, math.min(first + CHUNK - 1, to))
    if first == from then
      values = chunk
    else
      for _, value in ipairs(chunk) do
        values[#values + 1] = value
      end
    end
  end
  return values
end

-- One command over a list of fields, or of pairs.
local function write(command, key, list)
  for first = 1, #list, CHUNK do
    redis.call(command, key, unpack(list, first, math.min(first + CHUNK - 1, #list)))
  end
end

-- The version of the scope. It grows by one with each move that changes a sale or a counter.
local function version()
  local score = redis.call('ZSCORE', VERSIONS, MARK)
  if not score then broken = VERSIONS .. ' is lost' end
  return tonumber(score or 0)
end

-- How many units a person's entry has.
local function units_in(entry)
  local sum = 0
  for at = PART, #entry, PART do
    sum = sum + tonumber(string.sub(entry, at - 1, at), 16)
  end
  return sum
end

-- A sale's header is the text "state opens closes per_buyer per_passenger version". Returns the refusal of whoever comes
-- now, as a verdict, or nil if the sale is open: the same as `Sale::phase`. Then the two limits.
local function phase(header, now)
  if not header then return 'U' end
  local state, opens, closes, per_buyer, per_passenger = string.match(header, '^(%a) (%S+) (%S+) (%d+) (%d+)')
  if state == 'C' or (closes ~= '-' and tonumber(closes) <= now) then return 'C' end
  if opens == '-' or tonumber(opens) > now then return 'N' .. opens end
  return state == 'P' and 'P' or nil, tonumber(per_buyer), tonumber(per_passenger)
end

