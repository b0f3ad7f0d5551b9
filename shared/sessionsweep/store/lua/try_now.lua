--[[ An owed resource that failed and backs off is due now; its tries stay counted.
KEYS
  1 resources  hash
ARGV
  1 rid        resource id
RETURNS 1, or 0: it doesn't back off
]]
local resources = KEYS[1]
local rid = ARGV[1]
--@include clock
--@include layout
--@include books
--@include ending
local prefix = string.sub(resources, 1, -23)
local sid = string.sub(resources, -20)
local value, at = unpack(redis.call('HMGET', resources, rid, '@'))
if not value then return 0 end
local v = res(value)
-- what was never tried waits for a grace period, a pin or a lock: those are not to be cut short
if v.state ~= 'o' or v.tries == 0 or v.till <= now then return 0 end
redis.call('UNLINK', prefix .. 'none') -- must work on a full server; a slot being moved refuses here
v.till = now
redis.call('HSET', resources, rid, pack(v))
local place = lines(at)[v.loc]
redis.call('HSET', prefix .. 'l', place, 1)
redis.call('ZADD', prefix .. 'q:' .. place, 'LT', string.format('%.0f', now), sid)
nudge(prefix, place)
return 1
