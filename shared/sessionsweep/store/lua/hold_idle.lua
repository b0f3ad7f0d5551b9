--[[ Stops idle ends in a partition for a while, never shortening what stands; or lets them go on.
KEYS
  1 held      hash
ARGV
  1 duration  ms from now; 0: idle ends go on
RETURNS until when, ms; 0: not held
]]
local held = KEYS[1]
local duration = tonumber(ARGV[1])
--@include clock
--@include run
--@include hold
redis.call('UNLINK', held .. ':none') -- what protects sessions must work on a full server
-- a restart that this hold is for, or that an operator has lifted, must not be noticed once more by the next sweep
server_run(string.sub(held, 1, -2), now, duration)
if duration == 0 then
  redis.call('HSET', held, 'until', 0)
  return 0
end
local till = math.max(tonumber(redis.call('HGET', held, 'until') or '0'), now + duration)
redis.call('HSET', held, 'until', string.format('%.0f', till))
return till
