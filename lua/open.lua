-- Opens a rebuilt scope.
--
-- KEYS: the scope's
-- ARGV: 1 run id
-- Returns: {'ok'}
-- Keeps: only a scope whose rebuild ended in this run of the server opens; one that is open stays so

local meta = redis.call('HMGET', META, 'state', 'run_id', 'reason')
if not meta[1] then return { 'fenced', 'it is not there' } end
if meta[2] ~= ARGV[1] then return { 'fenced', 'it was rebuilt in another run of the server' } end
if meta[1] ~= 'built' and meta[1] ~= 'open' then
  return { 'fenced', 'it is ' .. meta[1] .. (meta[3] and ': ' .. meta[3] or '') }
end
redis.call('HSET', META, 'state', 'open')
return { 'ok' }
