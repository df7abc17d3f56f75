-- What the scripts of a scope share about counters. The program puts this text after `shared.lua`, in front of each.
--
-- KEYS: the scope's
-- ARGV: 1 run id
-- Returns: nothing; it is no script of its own
-- Keeps: free + held + sold = capacity, and nothing below zero, for every counter when it is read and when it is written

-- A counter is the text "capacity free held sold", its field is sale/pool/leg.
local function parse(text)
  local capacity, free, held, sold = string.match(text, '^(%d+) (%-?%d+) (%-?%d+) (%-?%d+)$')
  if not capacity then return { capacity = 0, free = -1, held = 0, sold = 0 } end
  return { capacity = tonumber(capacity), free = tonumber(free), held = tonumber(held), sold = tonumber(sold) }
end

local function pack(counter)
  return string.format('%d %d %d %d', counter.capacity, counter.free, counter.held, counter.sold)
end

-- The equation of the whole program, for one counter.
local function is_whole(counter)
  return counter.free >= 0 and counter.held >= 0 and counter.sold >= 0
    and counter.free + counter.held + counter.sold == counter.capacity
end

-- The counters of list[from..to]; false where there is none.
local function read_counters(list, from, to)
  local counters = read(COUNTERS, list, from, to)
  for at, text in ipairs(counters) do
    counters[at] = text and parse(text)
    if text and not is_whole(counters[at]) then
      broken = 'counter ' .. list[from + at - 1] .. ' does not add up: ' .. text
    end
  end
  return counters
end

-- Writes {field → counter}, and to each the version at which it changed.
local function write_counters(changed, at_version)
  local values, versions = {}, { at_version, MARK }
  for field, counter in pairs(changed) do
    values[#values + 1] = field
    values[#values + 1] = pack(counter)
    versions[#versions + 1] = at_version
    versions[#versions + 1] = field
  end
  write('HSET', COUNTERS, values)
  write('ZADD', VERSIONS, versions)
end

-- What an order takes, by its record: its sale, {counter field → units}, {person → units}.
local function footprint(record)
  local sale, buyer, lines = string.match(record, '^%a%x+ (%S+) (%S+) %S+ %S+ %S+ %S+ (%S+)')
  local counters, people = {}, { ['b ' .. sale .. ' ' .. buyer] = 0 }
  local function add(to, name, units)
    to[name] = (to[name] or 0) + units
  end
  for pool, first, last, quantity, passenger in string.gmatch(lines, '([^/,]+)/(%d+)/(%d+)/(%d+)/([^/,]+)/[^/,]+') do
    for leg = tonumber(first), tonumber(last) - 1 do
      add(counters, sale .. '/' .. pool .. '/' .. leg, tonumber(quantity))
    end
    add(people, 'b ' .. sale .. ' ' .. buyer, tonumber(quantity))
    if passenger ~= '-' then add(people, 'p ' .. sale .. ' ' .. passenger, tonumber(quantity)) end
  end
  return sale, counters, people
end

-- The fields of all counters that a sale has by its document.
local function counters_of(sale, document)
  local fields, definition = {}, cjson.decode(document)
  local legs = math.max(definition.stops and #definition.stops - 1 or 1, 1)
  for _, pool in ipairs(definition.pools) do
    for leg = 0, legs - 1 do
      fields[#fields + 1] = sale .. '/' .. pool.id .. '/' .. leg
    end
  end
  return fields
end

