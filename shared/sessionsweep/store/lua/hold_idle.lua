--[[ Stops idle ends in a partition for a while; never shortens what stands.
KEYS
  1 held      hash
ARGV
  1 duration  ms from now
RETURNS until when, ms
]]
local held = KEYS[1]
local duration = tonumber(ARGV[1])
--@include clock
local till = math.max(tonumber(redis.call('HGET', held, 'until') or '0'), now + duration)
redis.call('HSET', held, 'until', string.format('%.0f', till))
return till
