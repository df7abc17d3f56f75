-- Reads one order.
--
-- KEYS: the scope's
-- ARGV: 1 run id, 2 order id
-- Returns: {'ok'} if it is not known, or {'ok', its record}
-- Keeps: changes nothing, except that it fences if a key is lost

local why = closed()
if why then return { 'fenced', why } end

local record = read(ORDERS, ARGV, 2, 2)[1]
if broken then return fence(broken) end
return record and { 'ok', record } or { 'ok' }
