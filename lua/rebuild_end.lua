-- Ends a rebuild: the scope is whole, and closed.
--
-- KEYS: the scope's
-- ARGV: 1 run id, 2 the rebuild's token, 3 the version, then how many fields sales, counters, orders and people must have
-- Returns: {'ok'}
-- Keeps: a scope that has more or less than it was given stays unfinished, and cannot be opened

local meta = redis.call('HMGET', META, 'state', 'run_id', 'token')
if meta[1] ~= 'building' or meta[2] ~= ARGV[1] or meta[3] ~= ARGV[2] then
  return { 'fenced', 'another recovery, or a restart of the server, came into this rebuild' }
end
for index, hash in ipairs({ SALES, COUNTERS, ORDERS, PEOPLE }) do
  -- One more: the mark.
  if redis.call('HLEN', hash) ~= tonumber(ARGV[3 + index]) + 1 then
    return { 'fenced', hash .. ' does not have what the rebuild gave it' }
  end
end
redis.call('ZADD', VERSIONS, ARGV[3], MARK)
redis.call('HSET', META, 'state', 'built')
redis.call('HDEL', META, 'token')
return { 'ok' }
