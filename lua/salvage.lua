-- Reads a page of the outbox of a scope that is closed, whatever closed it.
--
-- KEYS: the scope's
-- ARGV: 1 run id, 2 the entry after which to go on, or '' for the first page, 3 how many at most
-- Returns: {'ok', {entry id, order ids as one text, their records…}…}; each order id has 32 digits, and the record of one that is
--          lost is empty
-- Keeps: changes nothing; what is lost is passed over, since there is nobody left to fence

local first = ARGV[2] == '' and '-' or '(' .. ARGV[2]
local entries = redis.call('XRANGE', OUTBOX, first, '+', 'COUNT', ARGV[3])
local ids = {}
for _, entry in ipairs(entries) do
  for at = 1, #entry[2][2], 32 do
    ids[#ids + 1] = string.sub(entry[2][2], at, at + 31)
  end
end
local records = read(ORDERS, ids, 1, #ids)

local reply, next_record = { 'ok' }, 1
for _, entry in ipairs(entries) do
  reply[#reply + 1] = entry[1]
  reply[#reply + 1] = entry[2][2]
  for _ = 1, #entry[2][2], 32 do
    reply[#reply + 1] = records[next_record] or ''
    next_record = next_record + 1
  end
end
return reply
