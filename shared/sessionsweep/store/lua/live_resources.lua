--[[ The records of a session that is live; none of one that has ended or is due. Writes nothing.
KEYS
  1 session    string
  2 resources  hash
RETURNS its fields and values
]]
local session, resources = KEYS[1], KEYS[2]
--@include clock
--@include layout
--@include run
--@include over
local prefix = string.sub(session, 1, -23)
local raw = redis.call('GET', session)
if not raw then return {} end
if over(prefix, header(raw), now) then return {} end
return redis.call('HGETALL', resources)
