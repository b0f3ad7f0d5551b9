--[[ Takes or renews a lease by name.
KEYS
  1 lease     string with TTL
ARGV
  1 token     the holder's
  2 duration  ms
RETURNS 1, or 0: another holds it
]]
local lease = KEYS[1]
local token, duration = ARGV[1], ARGV[2]
local holder = redis.call('GET', lease)
-- one without a TTL would never be given up: none of ours, so it counts as lapsed
if holder and holder ~= token and redis.call('PTTL', lease) ~= -1 then return 0 end
redis.call('UNLINK', lease .. ':none') -- cleaning begins with a lease: it must work on a full server
redis.call('SET', lease, token, 'PX', duration)
return 1
