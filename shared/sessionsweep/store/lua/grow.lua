--[[ Raises an intent's reservation (never lowers it) and renews its deadline; may evict as registering does.
KEYS
  1 session    string
ARGV
  1 rid        resource id
  2 size       bytes wanted in all
  3 timeout    ms until it is overdue
  4 max_bytes  bytes
  5 tell       1: a refusal is told as an event; 0: the caller tries with less
RETURNS {status, evicted ids, overdue at}; status `again`: only some room was made yet, call again
]]
local session = KEYS[1]
local rid, size, timeout, max_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local tell = ARGV[5]
--@include clock
--@include layout
--@include run
--@include over
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
local value = redis.call('HGET', rkey, rid)
if not value then return {'unknown', {}, 0} end
local v = res(value)
if v.state ~= 'i' then return {'unknown', {}, 0} end
local more = math.max(0, size - v.size)
local victims, limit, again = {}, nil, false
local places = lines(redis.call('HGET', rkey, '@'))
if more > 0 then
  victims, limit, again = choose_victims(rkey, now, 0, h.bytes + more - max_bytes, rid)
  if limit then return tell == '1' and refused(prefix, sid, limit, max_bytes) or {limit, {}, 0} end
end
if again then return some_room(prefix, sid, raw, h, victims, places, now) end
local ids = evict(prefix, sid, raw, h, victims, places, now)
v.size = v.size + more
v.till = math.max(v.till, now + timeout)
redis.call('HSET', rkey, rid, pack(v))
redis.call('ZADD', prefix .. 'i', v.till, sid .. ' ' .. rid)
h.bytes = h.bytes + more
save_counts(prefix, sid, h)
count('b_active', more)
close_books(prefix)
return {'ok', ids, v.till}
