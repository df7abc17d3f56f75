-- Counts the outbox entries.
--
-- KEYS: the scope's
-- ARGV: 1 run id
-- Returns: {'ok', how many}
-- Keeps: changes nothing

local why = closed()
if why then return { 'fenced', why } end
return { 'ok', tostring(redis.call('XLEN', OUTBOX)) }
