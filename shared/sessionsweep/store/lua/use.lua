--[[ Marks a live resource as just used and returns it.
KEYS
  1 session    string
  2 resources  hash
ARGV
  1 rid        resource id
RETURNS {record, locations} or false: not live here
]]
local session, resources = KEYS[1], KEYS[2]
local rid = ARGV[1]
--@include clock
--@include layout
--@include run
--@include over
local prefix = string.sub(session, 1, -23)
local raw = redis.call('GET', session)
if not raw then return false end
if over(prefix, header(raw), now) then return false end
local value, places = unpack(redis.call('HMGET', resources, rid, '@'))
if not value then return false end
local v = res(value)
if v.state ~= 'l' then return false end
v.used = math.max(now, v.used)
value = pack(v)
redis.call('UNLINK', prefix .. 'none')
redis.call('HSET', resources, rid, value)
return {value, places}
