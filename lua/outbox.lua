-- Reads the oldest outbox entries with the orders in them.
--
-- KEYS: the scope's
-- ARGV: 1 run id, 2 how old an entry must be, in ms of this server's clock, 3 how many at most, 4 an entry that they stand behind,
--   or empty
-- Returns: {'ok', {entry id, order ids as one text, their records…}…}; each order id has 32 digits
-- Keeps: an entry whose orders are not there means that data is lost: it fences

local why = closed()
if why then return { 'fenced', why } end

local time = redis.call('TIME')
local latest = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) - tonumber(ARGV[2])
if latest < 0 then return { 'ok' } end
local first = ARGV[4] == '' and '-' or '(' .. ARGV[4]
local entries = redis.call('XRANGE', OUTBOX, first, string.format('%d', latest), 'COUNT', ARGV[3])
local ids = {}
for _, entry in ipairs(entries) do
  for at = 1, #entry[2][2], 32 do
    ids[#ids + 1] = string.sub(entry[2][2], at, at + 31)
  end
end
local records = read(ORDERS, ids, 1, #ids)
if broken then return fence(broken) end

local reply, next_record = { 'ok' }, 1
for _, entry in ipairs(entries) do
  reply[#reply + 1] = entry[1]
  reply[#reply + 1] = entry[2][2]
  for _ = 1, #entry[2][2], 32 do
    if not records[next_record] then return fence('order ' .. ids[next_record] .. ' of the outbox is lost') end
    reply[#reply + 1] = records[next_record]
    next_record = next_record + 1
  end
end
return reply
