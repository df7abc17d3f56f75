-- Reads the counters of one sale.
--
-- KEYS: the scope's
-- ARGV: 1 run id, 2 sale
-- Returns: {'ok', {counter field, counter}…} in the order of the pools and legs; nothing more if the sale is not known
-- Keeps: changes nothing, except that it fences if a key is lost

local why = closed()
if why then return { 'fenced', why } end

local reply = { 'ok' }
local document = read(SALES, { ARGV[2] .. '/document' }, 1, 1)[1]
local fields = document and counters_of(ARGV[2], document) or {}
local values = read(COUNTERS, fields, 1, #fields)
if broken then return fence(broken) end
for index, field in ipairs(fields) do
  if not values[index] then return fence('counter ' .. field .. ' is lost') end
  reply[#reply + 1] = field
  reply[#reply + 1] = values[index]
end
return reply
