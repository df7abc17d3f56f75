-- Takes a sale's definition if it is newer than the known one, and sets its counters to the new capacities.
--
-- KEYS: the scope's
-- ARGV: 1 run id, 2 sale, 3 version, 4 header "state opens closes per_buyer per_passenger version", 5 document,
--       then {counter field, capacity}… in the order of the pools and legs
-- Returns: {'ok', 'applied'}, {'ok', 'not_newer'}, or {'ok', 'in_use', counter field, live} and nothing is changed
-- Keeps: free = capacity − held − sold, never below zero; a counter that the new definition does not have is empty and goes

local why = closed()
if why then return { 'fenced', why } end

local sale, document_field = ARGV[2], ARGV[2] .. '/document'
local known = read(SALES, { sale, document_field }, 1, 2)
local next_version = version() + 1
if broken then return fence(broken) end
if known[1] and tonumber(string.match(known[1], '(%d+)$')) >= tonumber(ARGV[3]) then return { 'ok', 'not_newer' } end

local fields, capacities, kept = {}, {}, {}
for at = 6, #ARGV, 2 do
  fields[#fields + 1] = ARGV[at]
  capacities[#fields] = tonumber(ARGV[at + 1])
  kept[ARGV[at]] = true
end
for _, field in ipairs(known[2] and counters_of(sale, known[2]) or {}) do
  if not kept[field] then
    fields[#fields + 1] = field
    capacities[#fields] = 0
  end
end

local counters, changed, gone = read_counters(fields, 1, #fields), {}, {}
if broken then return fence(broken) end
for index, field in ipairs(fields) do
  local counter = counters[index] or { capacity = 0, free = 0, held = 0, sold = 0 }
  local live = counter.held + counter.sold
  if live > capacities[index] then return { 'ok', 'in_use', field, live } end
  counter.capacity, counter.free = capacities[index], capacities[index] - live
  if kept[field] then
    changed[field] = counter
  else
    gone[#gone + 1] = field
  end
end

write('HSET', SALES, { sale, ARGV[4], document_field, ARGV[5] })
write('HDEL', COUNTERS, gone)
write('ZREM', VERSIONS, gone)
write('ZADD', VERSIONS, { next_version, sale })
write_counters(changed, next_version)
return { 'ok', 'applied' }
