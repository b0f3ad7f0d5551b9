--[[ Reads a session, or the tombstone it left. Writes nothing.
KEYS
  1 session    string
  2 tombstone  hash
  3 resources  hash
RETURNS {now, record or false, tombstone's fields and values, records left}
]]
local session, tombstone, resources = KEYS[1], KEYS[2], KEYS[3]
--@include clock
local raw = redis.call('GET', session)
if raw then return {now, raw, {}, 0} end
local left = redis.call('HLEN', resources) - redis.call('HEXISTS', resources, '@') - redis.call('HEXISTS', resources, '@k')
return {now, false, redis.call('HGETALL', tombstone), left}
