--[[ Registers a file again that lost writes made a live session forget. Limits are not asked: the bytes are there.
KEYS
  1 session   string
ARGV
  1 rid       resource id
  2 location  where it lies
  3 size      bytes
RETURNS 1, or 0: session not live, or the record is there
]]
local session = KEYS[1]
local rid, location, size = ARGV[1], ARGV[2], tonumber(ARGV[3])
--@include clock
--@include layout
--@include places
--@include books
--@include queueing
local prefix = string.sub(session, 1, -23)
local sid = string.sub(session, -20)
local rkey = prefix .. 'r:' .. sid
local raw = redis.call('GET', session)
if not raw or redis.call('HEXISTS', rkey, rid) == 1 then return 0 end
local h = header(raw)
local places = lines(redis.call('HGET', rkey, '@'))
local number, added = line_for(rkey, places, location)
if not number then return 0 end
redis.call('UNLINK', prefix .. 'none')
event(prefix, 'e', 'resource_readopted', 's', sid, 'x', rid)
if added then redis.call('HSET', rkey, '@', table.concat(places, '\n')) end
if added or string.sub(location, 1, 2) == 'p.' then redis.call('HSET', prefix .. 'l', location, 1) end -- as in `register`
redis.call('HSET', rkey, rid, pack({state = 'l', kind = 'f', size = size, created = now, used = now, till = 0, tries = 0,
  loc = number, purpose = 'found', error = ''}))
redis.call('SETRANGE', session, 46, struct.pack('>I2I2I6', h.resources + 1, h.streams, h.bytes + size))
redis.call('SETRANGE', session, 1, string.char(bit.bor(h.flags, OWNS)))
count('reg:f', 1)
count('active', 1)
count('b_active', size)
close_books(prefix)
return 1
