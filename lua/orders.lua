-- Reads a page of all orders.
--
-- KEYS: the scope's
-- ARGV: 1 run id, 2 cursor, '0' for the first page, 3 how many about
-- Returns: {'ok', next cursor or '0', {order id, record}…}; an order may come twice
-- Keeps: changes nothing

local why = closed()
if why then return { 'fenced', why } end

local page = redis.call('HSCAN', ORDERS, ARGV[2], 'COUNT', ARGV[3])
local reply = { 'ok', page[1] }
for at = 1, #page[2], 2 do
  if page[2][at] ~= MARK then
    reply[#reply + 1] = page[2][at]
    reply[#reply + 1] = page[2][at + 1]
  end
end
return reply
