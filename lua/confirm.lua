-- Decides a batch of claims in their order, in a number of Redis calls that does not grow with the batch.
--
-- KEYS: the scope's
-- ARGV: 1 run id, 2 now in ms, 3 the plan, then order ids, records, sales, counter fields, people fields
--       The plan is a list of numbers in MessagePack: how many claims, sales, counters, people; then for each claim
--       its sale, how many people, {person, units}…, how many counters, {counter, units}…; the first person is the buyer.
-- Returns: {'ok', outbox id or '', version, the letters of all verdicts, what some of them say, one counter or '' per counter
--          field}; a verdict is G granted, K… known: its stored record, R key reused, U unknown sale, N… not open until, P paused,
--          C closed, L… limit: the person's entry, S sold out, A all held
-- Keeps: free + held + sold = capacity and free ≥ 0 for every counter asked for, or it fences; a grant, its counters, its
--        people and its outbox entry are written together, after all is validated

local why = closed()
if why then return { 'fenced', why } end

local now, plan = tonumber(ARGV[2]), cmsgpack.unpack(ARGV[3])
local claim_count, sale_count, counter_count, person_count = plan[1], plan[2], plan[3], plan[4]
local ids, records, sales = 3, 3 + claim_count, 3 + 2 * claim_count
local fields, names = sales + sale_count, sales + sale_count + counter_count

local known = read(ORDERS, ARGV, ids + 1, records)
local headers = read(SALES, ARGV, sales + 1, fields)
local counters = read_counters(ARGV, fields + 1, names)
local people = read(PEOPLE, ARGV, names + 1, names + person_count)
local next_version = version() + 1
if broken then return fence(broken) end
local refusals, per_buyer, per_passenger = {}, {}, {}
for index = 1, sale_count do
  refusals[index], per_buyer[index], per_passenger[index] = phase(headers[index], now)
end

-- How many units a person has in the sale, grants of this batch included; and numbers of units as two digits.
local taken, digits = {}, {}
local function units_of(person)
  taken[person] = taken[person] or people[person] and units_in(people[person]) or 0
  return taken[person]
end
local granted, hints, fresh, new_orders, changed_people, changed_counters = {}, {}, {}, {}, {}, {}
local function grant(id, record, first_person, last_person, first_counter, last_counter)
  local count = #granted + 1
  granted[count], hints[count], fresh[id] = id, string.sub(id, 1, HINT), record
  new_orders[2 * count - 1], new_orders[2 * count] = id, record
  for at = first_person, last_person, 2 do
    local person, units = plan[at], plan[at + 1]
    digits[units] = digits[units] or string.format('%02x', units)
    people[person] = (people[person] or '') .. id .. digits[units]
    taken[person] = taken[person] + units
    changed_people[person] = true
  end
  for at = first_counter, last_counter, 2 do
    local counter, units = counters[plan[at]], plan[at + 1]
    counter.free, counter.held = counter.free - units, counter.held + units
    changed_counters[ARGV[fields + plan[at]]] = counter
  end
end

-- The letter of a verdict, and what is to be said of it: two, for a text that Lua makes or cuts costs as much as a dozen looks into tables.
local cursor = 5
local function decide(index)
  local id, record, sale = ARGV[ids + index], ARGV[records + index], plan[cursor]
  local first_person = cursor + 2
  local last_person = first_person + 2 * plan[cursor + 1] - 1
  local first_counter = last_person + 2
  local last_counter = first_counter + 2 * plan[last_person + 1] - 1
  cursor = last_counter + 1
  local before = known[index] or fresh[id]
  if before then
    -- A letter of status, then 16 digits of the fingerprint.
    if string.sub(before, 2, 17) == string.sub(record, 2, 17) then return 'K', before end
    return 'R'
  end
  if refusals[sale] then return string.sub(refusals[sale], 1, 1), string.match(refusals[sale], '^N(.*)') end
  local limit = per_buyer[sale]
  for at = first_person, last_person, 2 do
    if units_of(plan[at]) + plan[at + 1] > limit then return 'L', people[plan[at]] or '' end
    limit = per_passenger[sale]
  end
  local exhausted, held = false, false
  for at = first_counter, last_counter, 2 do
    local counter = counters[plan[at]]
    if not counter or counter.free < plan[at + 1] then
      exhausted = true
      held = held or (counter and counter.held > 0)
    end
  end
  if exhausted then return held and 'A' or 'S' end
  grant(id, record, first_person, last_person, first_counter, last_counter)
  return 'G'
end

-- One text of letters is less to send than one text per letter.
local reply, letters = { 'ok', '', next_version - 1, '' }, {}
for index = 1, claim_count do
  local letter, about = decide(index)
  letters[index] = letter
  if about then reply[#reply + 1] = about end
end
reply[4] = table.concat(letters)
for index = 1, counter_count do
  if counters[index] and not is_whole(counters[index]) then
    return fence('counter ' .. ARGV[fields + index] .. ' does not add up: ' .. pack(counters[index]))
  end
  reply[#reply + 1] = counters[index] and pack(counters[index]) or ''
end
if #granted == 0 then return reply end

-- The streams are the only keys that have not been read above. Hints too many do no harm, so theirs is written first.
local told = redis.call('XADD', GRANTED, 'NOMKSTREAM', next_version .. '-1', 'o', table.concat(hints))
local entry = told and redis.call('XADD', OUTBOX, 'NOMKSTREAM', '*', 'o', table.concat(granted))
if not entry then return fence((told and OUTBOX or GRANTED) .. ' is lost') end
reply[2], reply[3] = entry, next_version
local entries = {}
for person in pairs(changed_people) do
  entries[#entries + 1] = ARGV[names + person]
  entries[#entries + 1] = people[person]
end
write('HSET', ORDERS, new_orders)
write('HSET', PEOPLE, entries)
write_counters(changed_counters, next_version)
return reply
