--[[ A dead letter is forgotten: what it named stays where it is, and is nobody's.
KEYS
  1 resources  hash
ARGV
  1 rid        resource id
  2 retention  ms that a receipt stays
RETURNS 1, or 0: it isn't a dead letter
]]
local resources = KEYS[1]
local rid, retention = ARGV[1], ARGV[2]
--@include clock
--@include layout
--@include books
--@include queueing
--@include receipt
local prefix = string.sub(resources, 1, -23)
local sid = string.sub(resources, -20)
local value, at = unpack(redis.call('HMGET', resources, rid, '@'))
if not value or res(value).state ~= 'd' then return 0 end
redis.call('UNLINK', prefix .. 'none') -- a slot being moved refuses here, before anything is done
event(prefix, 'e', 'resource_forgotten', 's', sid, 'x', rid)
redis.call('HDEL', resources, rid)
redis.call('ZREM', prefix .. 'dl', sid .. ' ' .. rid)
count('dead', -1)
count('forgotten', 1)
close_books(prefix)
receipt(prefix, sid, lines(at)[res(value).loc] or '', {forgotten = 1, dead = -1})
if redis.call('EXISTS', prefix .. 's:' .. sid) == 0 and close_debt(prefix, sid, retention) then
  event(prefix, 'e', 'session_reclaimed', 's', sid)
end
return 1
