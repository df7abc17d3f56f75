-- Notes a node's sign of life and tells who else is alive.
--
-- KEYS: 1 nodes
-- ARGV: 1 node, 2 weight, 3 status, 4 after how many ms of silence a node is taken for dead
-- Returns: {'ok', {node, weight, status}…}, this one included
-- Keeps: time is this server's; who has been silent for a day is forgotten

local FORGET = 24 * 3600 * 1000
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d %s %s', now, ARGV[2], ARGV[3]))

local all, reply = redis.call('HGETALL', KEYS[1]), { 'ok' }
for at = 1, #all, 2 do
  local last, weight, status = string.match(all[at + 1], '^(%d+) (%S+) (.*)$')
  local silence = now - tonumber(last)
  if silence <= tonumber(ARGV[4]) then
    reply[#reply + 1] = all[at]
    reply[#reply + 1] = weight
    reply[#reply + 1] = status
  elseif silence > FORGET then
    redis.call('HDEL', KEYS[1], all[at])
  end
end
return reply
