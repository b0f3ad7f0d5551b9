--[[ Makes an intent live at its true size, which can only lower the reservation.
KEYS
  1 session  string
ARGV
  1 rid      resource id
  2 size     bytes written
RETURNS {status, {}, 0}
]]
local session = KEYS[1]
local rid, size = ARGV[1], ARGV[2]
--@include clock
--@include layout
--@include run
--@include over
--@include books
--@include ending
--@include owing
local prefix = string.sub(session, 1, -23)
local sid = string.sub(session, -20)
local rkey = prefix .. 'r:' .. sid
local raw = redis.call('GET', session)
if not raw then return {'ended', {}, 0} end
local h = header(raw)
if over(prefix, h, now) then return {'ended', {}, 0} end
local value = redis.call('HGET', rkey, rid)
if not value then return {'unknown', {}, 0} end
local state, reserved, written = string.byte(value), size_of(value), tonumber(size)
if state == LIVE then return {'ok', {}, 0} end
if state ~= INTENT then return {'unknown', {}, 0} end
if not is_sound(value) then error({err = 'DAMAGED a resource is cut short'}) end
if written > reserved then return {'limit:bytes', {}, 0} end
redis.call('UNLINK', prefix .. 'none') -- what is written must be kept on a full server; a slot being moved refuses here
event(prefix, 'e', 'resource_committed', 's', sid, 'x', rid, 'size', size)
redis.call('ZREM', prefix .. 'i', sid .. ' ' .. rid)
redis.call('HSET', rkey, rid, 'l' .. string.sub(value, 2, 2) .. struct.pack('>I6', written) .. string.sub(value, 9, 14)
  .. struct.pack('>I6I6', now, 0) .. string.sub(value, 27))
if written < reserved then
  h.bytes = h.bytes - (reserved - written)
  save_counts(prefix, sid, h)
  count('b_active', written - reserved)
  close_books(prefix)
end
return {'ok', {}, 0}
