-- Empties a scope and opens it for the rebuild that names itself, and for no other.
--
-- KEYS: the scope's
-- ARGV: 1 run id, 2 the rebuild's token
-- Returns: {'ok'}
-- Keeps: whatever was there is gone; every key is there and has its mark, so that a later loss of one is noticed

redis.call('UNLINK', unpack(KEYS))
redis.call('HSET', META, 'state', 'building', 'run_id', ARGV[1], 'token', ARGV[2])
for _, hash in ipairs({ SALES, COUNTERS, ORDERS, PEOPLE }) do
  redis.call('HSET', hash, MARK, '')
end
-- A stream stays when its last entry goes.
redis.call('XDEL', OUTBOX, redis.call('XADD', OUTBOX, '*', 'o', ''))
redis.call('XDEL', GRANTED, redis.call('XADD', GRANTED, '0-1', 'o', ''))
redis.call('ZADD', VERSIONS, 0, MARK)
return { 'ok' }
