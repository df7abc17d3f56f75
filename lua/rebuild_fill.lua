-- Writes one part of a rebuild.
--
-- KEYS: the scope's
-- ARGV: 1 run id, 2 the rebuild's token, 3 which of the KEYS, then {field, value}… or, for the versions, {version, member}…, or, for the
--       granted orders, {entry id, hints}…
-- Returns: {'ok'}
-- Keeps: writes nothing unless this rebuild is the one that goes on, on the run of the server where it began

local meta = redis.call('HMGET', META, 'state', 'run_id', 'token')
if meta[1] ~= 'building' or meta[2] ~= ARGV[1] or meta[3] ~= ARGV[2] then
  return { 'fenced', 'another recovery, or a restart of the server, came into this rebuild' }
end
local key, pairs_of_it = KEYS[tonumber(ARGV[3])], {}
for at = 4, #ARGV do
  pairs_of_it[#pairs_of_it + 1] = ARGV[at]
end
if key == GRANTED then
  for at = 1, #pairs_of_it, 2 do
    redis.call('XADD', key, pairs_of_it[at], 'o', pairs_of_it[at + 1])
  end
else
  write(key == VERSIONS and 'ZADD' or 'HSET', key, pairs_of_it)
end
return { 'ok' }
