-- Reads a page of the sales and counters that changed after a version, and of the orders granted since.
--
-- KEYS: the scope's
-- ARGV: 1 run id, 2 the version, 3 how many sales and counters to read at least, if there are as many, 4 how many entries of granted
--       orders at most
-- Returns: {'ok', version to go on from, 1 if there is more, then {sale, document}…, {counter field, counter}… and
--          {'#', hints of granted orders}…}
-- Keeps: a move is never cut in two; what changes between two pages comes again with a later one

local why = closed()
if why then return { 'fenced', why } end

local upto = version()
if broken then return fence(broken) end
if upto <= tonumber(ARGV[2]) then return { 'ok', tostring(upto), '0' } end
local since, size, entries, more = '(' .. ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), 0
local function granted_in(first, last, ...)
  return redis.call('XRANGE', GRANTED, string.format('%d', first), string.format('%d', last), ...)
end
local function version_of(entry)
  return tonumber(string.match(entry[1], '^%d+'))
end
-- A node that comes late has all orders to hear of. Whether the last version of a full page is whole cannot be seen, so it comes again.
local granted = granted_in(tonumber(ARGV[2]) + 1, upto, 'COUNT', entries)
if #granted == entries then
  local first, whole = version_of(granted[1]), version_of(granted[entries]) - 1
  if whole < first then
    whole, granted = first, granted_in(first, first)
  end
  if whole < upto then
    more, upto = 1, whole
  end
end
local page = redis.call('ZRANGEBYSCORE', VERSIONS, since, upto, 'LIMIT', size, 1, 'WITHSCORES')
if page[2] and tonumber(page[2]) < upto then
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
for _, entry in ipairs(granted) do
  if version_of(entry) > upto then break end
  reply[#reply + 1] = MARK
  reply[#reply + 1] = entry[2][2]
end
if broken then return fence(broken) end
return reply
