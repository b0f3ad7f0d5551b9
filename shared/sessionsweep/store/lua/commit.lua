--[[ Makes an intent live at its true size, which can only lower the reservation.
KEYS
  1 session  string
ARGV
  1 rid      resource id
  2 size     bytes written
RETURNS {status, {}, 0}
]]
local session = KEYS[1]
local rid, size = ARGV[1], tonumber(ARGV[2])
--@include clock
--@include layout
--@include books
--@include ending
--@include owing
local prefix = string.sub(session, 1, -23)
local sid = string.sub(session, -20)
local rkey = prefix .. 'r:' .. sid
local raw = redis.call('GET', session)
if not raw then return {'ended', {}, 0} end
local h = header(raw)
local idle_end, old_end = dies(h)
if now >= idle_end or now >= old_end then return {'ended', {}, 0} end
local value = redis.call('HGET', rkey, rid)
if not value then return {'unknown', {}, 0} end
local v = res(value)
if v.state == 'l' then return {'ok', {}, 0} end
if v.state ~= 'i' then return {'unknown', {}, 0} end
if size > v.size then return {'limit:bytes', {}, 0} end
redis.call('UNLINK', prefix .. 'none') -- what is written must be kept on a full server; a slot being moved refuses here
event(prefix, 'e', 'resource_committed', 's', sid, 'x', rid, 'size', string.format('%.0f', size))
redis.call('ZREM', prefix .. 'i', sid .. ' ' .. rid)
h.bytes = h.bytes - (v.size - size)
count('b_active', size - v.size)
v.state, v.size, v.used, v.till = 'l', size, now, 0
redis.call('HSET', rkey, rid, pack(v))
save_counts(prefix, sid, h)
close_books(prefix)
return {'ok', {}, 0}
