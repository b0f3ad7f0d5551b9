--[[ Registers a resource before its first byte; at a limit the least recently used go owed. Nothing evictable: refused.
KEYS
  1 session        string
ARGV
  1 rid            resource id
  2 kind           its letter
  3 location       where it will be reclaimed
  4 size           bytes reserved
  5 purpose        text
  6 live           1: live at once, no commit follows
  7 timeout        ms until the intent is overdue
  8 max_resources  files and objects
  9 max_bytes      bytes
  10 max_streams   streams
  11 quota         1: it holds a share of its user's quota
  12 not_after     deadline of that share's reservation, ms; 0: none
  13 user          whose share that is; empty: not asked
RETURNS {status, evicted ids, overdue at}; status `again`: only some room was made yet, call again
]]
local session = KEYS[1]
local rid, kind, location, size, purpose = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local live, timeout = ARGV[6], tonumber(ARGV[7])
if kind == 's' then size = 0 end -- streams have a count, no bytes
local max_resources, max_bytes, max_streams = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local quota, not_after, user = ARGV[11], tonumber(ARGV[12]), ARGV[13]
--@include clock
--@include layout
--@include run
--@include over
--@include places
--@include books
--@include ending
--@include owing
--@include eviction
--@include once
--@include limits
local prefix = string.sub(session, 1, -23)
local sid = string.sub(session, -20)
local rkey = prefix .. 'r:' .. sid
local raw = redis.call('GET', session)
if not raw then return {'ended', {}, 0} end
local h = header(raw)
if over(prefix, h, now) then return {'ended', {}, 0} end
local there, at = unpack(redis.call('HMGET', rkey, rid, '@'))
if there then
  local v = res(there)
  if v.state == 'i' or v.state == 'l' then return {'ok', {}, v.till} end
  return {'unknown', {}, 0} -- it was released or overdue since: ids are never used twice
end
if not_after > 0 and now > not_after then return {'lapsed', {}, 0} end
-- another request has logged in meanwhile: what is made now is the new user's, and would count in nobody's quota
if user ~= '' and (#raw == 72 or struct.unpack('>I2c0', raw, 73) ~= user) then return {'lapsed', {}, 0} end
local places = lines(at)

local victims, limit, again = {}, nil, false
if kind == 's' then
  if h.streams + 1 > max_streams then return refused(prefix, sid, 'limit:streams', max_streams) end
else
  victims, limit, again = choose_victims(rkey, now, h.resources + 1 - max_resources, h.bytes + size - max_bytes, rid)
  if limit then return refused(prefix, sid, limit, limit == 'limit:bytes' and max_bytes or max_resources) end
end
if again then return some_room(prefix, sid, raw, h, victims, places, now) end

local number, added = line_for(rkey, places, location)
if not number then return {kind == 's' and 'limit:streams' or 'limit:resources', {}, 0} end
-- first: a full server refuses here, nothing is made
event(prefix, 'e', 'resource_registered', 's', sid, 'x', rid, 'kind', kind, 'location', location)
if added then redis.call('HSET', rkey, '@', table.concat(places, '\n')) end
-- a process that was only paused was taken for dead, and its queue is listed no more
if added or string.sub(location, 1, 2) == 'p.' then redis.call('HSET', prefix .. 'l', location, 1) end
local till = live == '1' and 0 or now + timeout
redis.call('HSET', rkey, rid, struct.pack(RES, live == '1' and 'l' or 'i', kind, size, now, now, till, 0, number,
  #purpose, purpose, 0, ''))
if live ~= '1' then redis.call('ZADD', prefix .. 'i', till, sid .. ' ' .. rid) end
-- an entry far ahead, so that the streams of a process that died can be found
if kind == 's' then redis.call('ZADD', prefix .. 'q:' .. location, 'NX', string.format('%.0f', FAR), sid) end
local ids = evict(prefix, sid, raw, h, victims, places, now)
if kind == 's' then h.streams = h.streams + 1 else h.resources = h.resources + 1; h.bytes = h.bytes + size end
save_counts(prefix, sid, h)
local flags = bit.bor(h.flags, OWNS, quota == '1' and QUOTA or 0)
if flags ~= h.flags then redis.call('SETRANGE', session, 1, string.char(flags)) end
count('reg:' .. kind, 1) -- their sum is what was registered: a counter less to write
if kind == 's' then count('streams', 1) end
count('active', 1)
count('b_active', size)
close_books(prefix)
return {'ok', ids, till}
