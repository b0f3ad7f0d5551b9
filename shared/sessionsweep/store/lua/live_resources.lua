--[[ The records of a session that is live; none of one that has ended or is due. Writes nothing.
KEYS
  1 session    string
  2 resources  hash
RETURNS its fields and values
]]
local session, resources = KEYS[1], KEYS[2]
--@include clock
--@include layout
local raw = redis.call('GET', session)
if not raw then return {} end
local idle_end, old_end = dies(header(raw))
if now >= idle_end or now >= old_end then return {} end
return redis.call('HGETALL', resources)
