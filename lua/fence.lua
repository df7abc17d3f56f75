-- Closes a scope.
--
-- KEYS: the scope's
-- ARGV: 1 run id
-- Returns: {'ok'}
-- Keeps: whatever the scope was, only another rebuild makes it one that can be opened; a first reason stays

local state = redis.call('HGET', META, 'state')
if state ~= 'fenced' then fence('a recovery closed it') end
return { 'ok' }
