-- Sells its units to an order whose payment came too late.
--
-- KEYS: the scope's
-- ARGV: 1 run id, 2 order id
-- Returns: {'ok', 'taken'} or {'ok', 'refused'}
-- Keeps: free + held + sold = capacity for every counter touched, or it fences; the limits of buyer and passengers; an order's first
--        verdict, by the word behind its record; all is validated before anything is written

local why = closed()
if why then return { 'fenced', why } end

local id, REFUSED = ARGV[2], ' refused'
local record = read(ORDERS, ARGV, 2, 2)[1]
if broken then return fence(broken) end
local status = record and string.sub(record, 1, 1)
if status == 'P' then return { 'ok', 'taken' } end
if (status ~= 'H' and status ~= 'E') or string.sub(record, -#REFUSED) == REFUSED then return { 'ok', 'refused' } end

local function listed(map)
  local list = {}
  for name in pairs(map) do
    list[#list + 1] = name
  end
  return list
end

local sale, units_of, people_of = footprint(record)
local fields, names = listed(units_of), listed(people_of)
local header = read(SALES, { sale }, 1, 1)[1]
local counters = read_counters(fields, 1, #fields)
local people = read(PEOPLE, names, 1, #names)
local next_version = version() + 1
if broken then return fence(broken) end

-- An expired order takes its units again; a held one has them.
local function may_have_them()
  if not header then return false end
  local per_buyer, per_passenger = string.match(header, '^%a %S+ %S+ (%d+) (%d+)')
  for index, name in ipairs(names) do
    local limit = tonumber(string.sub(name, 1, 1) == 'b' and per_buyer or per_passenger)
    if units_in(people[index] or '') + people_of[name] > limit then return false end
  end
  for index, field in ipairs(fields) do
    if not counters[index] or counters[index].free < units_of[field] then return false end
  end
  return true
end
if status == 'E' and not may_have_them() then
  write('HSET', ORDERS, { id, record .. REFUSED })
  return { 'ok', 'refused' }
end

local changed, entries = {}, {}
for index, field in ipairs(fields) do
  local counter, from = counters[index], status == 'E' and 'free' or 'held'
  if not counter then return fence('counter ' .. field .. ' is lost') end
  counter[from], counter.sold = counter[from] - units_of[field], counter.sold + units_of[field]
  if not is_whole(counter) then return fence('counter ' .. field .. ' does not add up: ' .. pack(counter)) end
  changed[field] = counter
end
for index, name in ipairs(status == 'E' and names or {}) do
  entries[#entries + 1] = name
  entries[#entries + 1] = (people[index] or '') .. id .. string.format('%02x', people_of[name])
end
write('HSET', ORDERS, { id, 'P' .. string.sub(record, 2) })
write('HSET', PEOPLE, entries)
write_counters(changed, next_version)
return { 'ok', 'taken' }
