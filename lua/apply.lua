-- Carries ends of orders, as the store decided them, into the counters.
--
-- KEYS: the scope's
-- ARGV: 1 run id, 2 one letter per move: the status that the order comes to, then the order ids
-- Returns: {'ok'}
-- Keeps: an order's units move once: only held → P E C R and paid → C R do anything; free + held + sold = capacity for every
--        counter touched, or it fences; all is validated before anything is written

local why = closed()
if why then return { 'fenced', why } end

local MOVES = {
  HP = { 'held', 'sold' },
  HE = { 'held', 'free' },
  HC = { 'held', 'free' },
  HR = { 'held', 'free' },
  PC = { 'sold', 'free' },
  PR = { 'sold', 'free' },
}
local letters, ids = ARGV[2], 2

-- An index for each name that is asked for, so that all can be read at once.
local function indexed(list, index, name)
  if not index[name] then
    list[#list + 1] = name
    index[name] = #list
  end
  return index[name]
end

local records = read(ORDERS, ARGV, ids + 1, #ARGV)
local next_version = version() + 1
local current, moves = {}, {}
local fields, field_at, names, name_at = {}, {}, {}, {}

local function plan(id, record, to)
  local move = MOVES[string.sub(record, 1, 1) .. to]
  if not move then return record end
  local planned = { id = id, from = move[1], to = move[2], units = {}, people = {} }
  local _, units_of, people_of = footprint(record)
  for field, units in pairs(units_of) do
    planned.units[indexed(fields, field_at, field)] = units
  end
  for name in pairs(move[2] == 'free' and people_of or {}) do
    planned.people[#planned.people + 1] = indexed(names, name_at, name)
  end
  moves[#moves + 1] = planned
  return to .. string.sub(record, 2)
end

for at = 1, #letters do
  local id = ARGV[ids + at]
  current[id] = current[id] or records[at]
  if current[id] then
    current[id] = plan(id, current[id], string.sub(letters, at, at))
  end
end

local counters = read_counters(fields, 1, #fields)
local people = read(PEOPLE, names, 1, #names)
if broken then return fence(broken) end
if #moves == 0 then return { 'ok' } end

-- An entry without the part of one order.
local function without(entry, id)
  local kept = {}
  for at = 1, #entry, PART do
    local part = string.sub(entry, at, at + PART - 1)
    if string.sub(part, 1, 32) ~= id then kept[#kept + 1] = part end
  end
  return table.concat(kept)
end

local new_records, changed = {}, {}
for _, move in ipairs(moves) do
  for index, units in pairs(move.units) do
    local counter = counters[index]
    if not counter then return fence('counter ' .. fields[index] .. ' is lost') end
    counter[move.from] = counter[move.from] - units
    counter[move.to] = counter[move.to] + units
    changed[fields[index]] = counter
  end
  for _, index in ipairs(move.people) do
    people[index] = people[index] and without(people[index], move.id)
  end
  new_records[#new_records + 1] = move.id
  new_records[#new_records + 1] = current[move.id]
end
for field, counter in pairs(changed) do
  if not is_whole(counter) then return fence('counter ' .. field .. ' does not add up: ' .. pack(counter)) end
end

local entries, gone = {}, {}
for index, name in ipairs(names) do
  if people[index] == '' then
    gone[#gone + 1] = name
  elseif people[index] then
    entries[#entries + 1] = name
    entries[#entries + 1] = people[index]
  end
end
write('HSET', ORDERS, new_records)
write('HSET', PEOPLE, entries)
write('HDEL', PEOPLE, gone)
write_counters(changed, next_version)
return { 'ok' }
