--[[ Reads a session, or the tombstone it left. Writes nothing.
KEYS
  1 session    string
  2 tombstone  hash
RETURNS {now, record or false, tombstone's fields and values}
]]
local session, tombstone = KEYS[1], KEYS[2]
--@include clock
local raw = redis.call('GET', session)
if raw then return {now, raw, {}} end
return {now, false, redis.call('HGETALL', tombstone)}
