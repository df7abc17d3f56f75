-- Removes outbox entries whose orders are in the store.
--
-- KEYS: the scope's
-- ARGV: 1 run id, then entry ids
-- Returns: {'ok'}
-- Keeps: the stream itself stays when its last entry goes; an entry that is not there is passed over

local why = closed()
if why then return { 'fenced', why } end

for first = 2, #ARGV, CHUNK do
  redis.call('XDEL', OUTBOX, unpack(ARGV, first, math.min(first + CHUNK - 1, #ARGV)))
end
return { 'ok' }
