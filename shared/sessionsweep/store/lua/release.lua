--[[ A live resource, or an intent, of a live session becomes owed at once.
KEYS
  1 session  string
ARGV
  1 rid      resource id
RETURNS 1, or 0: not there; said again of one that is given up already: 1
]]
local session = KEYS[1]
local rid = ARGV[1]
--@include clock
--@include layout
--@include books
--@include ending
--@include owing
local prefix = string.sub(session, 1, -23)
local sid = string.sub(session, -20)
local rkey = prefix .. 'r:' .. sid
local raw = redis.call('GET', session)
local value = redis.call('HGET', rkey, rid)
if not value then return 0 end
local v = res(value)
-- the answer to the first word may have been lost
if not raw or (v.state ~= 'l' and v.state ~= 'i') then return 1 end
local h = header(raw)
redis.call('UNLINK', prefix .. 'none') -- freeing must work on a full server
owe(prefix, sid, raw, h, rid, v, lines(redis.call('HGET', rkey, '@'))[v.loc], now) -- it looks at the stream, too
event(prefix, 'e', 'resource_released', 's', sid, 'x', rid)
save_counts(prefix, sid, h)
close_books(prefix)
return 1
