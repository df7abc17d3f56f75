-- Reads a page of the sales and counters that changed after a version, and of the orders granted since.
--
-- KEYS: the scope's
-- ARGV: 1 run id, 2 the version, 3 how many to read at least, if there are as many
-- Returns: {'ok', version to go on from, 1 if there is more, then {sale, document}…, {counter field, counter}… and
--          {'#', hints of granted orders}…}
-- Keeps: a move is never cut in two; what changes between two pages comes again with a later one

local why = closed()
if why then return { 'fenced', why } end

local upto = version()
if broken then return fence(broken) end
if upto <= tonumber(ARGV[2]) then return { 'ok', tostring(upto), '0' } end
local since, size, more = '(' .. ARGV[2], tonumber(ARGV[3]), 0
local page = redis.call('ZRANGEBYSCORE', VERSIONS, since, '+inf', 'LIMIT', size, 1, 'WITHSCORES')
if page[2] then
  more, upto = 1, tonumber(page[2])
end
local sales, documents, fields = {}, {}, {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', VERSIONS, since, upto)) do
  if string.find(member, '/', 1, true) then
    fields[#fields + 1] = member
  elseif member ~= MARK then
    sales[#sales + 1] = member
    documents[#documents + 1] = member .. '/document'
  end
end

local reply = { 'ok', tostring(upto), tostring(more) }
local function answer(names, values)
  for index, name in ipairs(names) do
    if values[index] then
      reply[#reply + 1] = name
      reply[#reply + 1] = values[index]
    end
  end
end
answer(sales, read(SALES, documents, 1, #documents))
answer(fields, read(COUNTERS, fields, 1, #fields))
for _, entry in ipairs(redis.call('XRANGE', GRANTED, string.format('%d', tonumber(ARGV[2]) + 1), string.format('%d', upto))) do
  reply[#reply + 1] = MARK
  reply[#reply + 1] = entry[2][2]
end
if broken then return fence(broken) end
return reply
