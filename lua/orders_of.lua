-- Reads the orders that count for a person.
--
-- KEYS: the scope's
-- ARGV: 1 run id, 2 person
-- Returns: {'ok', {order id, record}…}
-- Keeps: changes nothing, except that it fences if a key or a record is lost

local why = closed()
if why then return { 'fenced', why } end

local entry, ids = read(PEOPLE, ARGV, 2, 2)[1] or '', {}
for at = 1, #entry, PART do
  ids[#ids + 1] = string.sub(entry, at, at + PART - 3)
end
local records = read(ORDERS, ids, 1, #ids)
if broken then return fence(broken) end
local reply = { 'ok' }
for index, id in ipairs(ids) do
  if not records[index] then return fence('order ' .. id .. ' is lost') end
  reply[#reply + 1] = id
  reply[#reply + 1] = records[index]
end
return reply
