--[[ Counts as activity, and sets the timeouts given. A shorter one files a second wheel entry.
KEYS
  1 session  string
ARGV
  1 idle     ms, or -1: as it is
  2 max      ms, 0: none, or -1: as it is
  3 width    of a wheel slot, ms
RETURNS {status, now, record}; 1 ok, 0 not live
]]
local session = KEYS[1]
local idle, max, width = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
--@include clock
--@include layout
--@include wheel
local prefix = string.sub(session, 1, -23)
local raw = redis.call('GET', session)
if not raw then return {0, now} end
local h = header(raw)
local idle_end, old_end = dies(h)
if now >= idle_end or now >= old_end then return {0, now} end
h.last = math.max(h.last, now)
if idle >= 0 then h.idle = idle end
if max >= 0 then h.max = max end
redis.call('UNLINK', prefix .. 'none')
idle_end, old_end = dies(h)
local due = math.min(idle_end, old_end)
if math.ceil(due / width) * width < h.filed then h.filed = file(prefix, string.sub(session, -20), due, width) end
raw = string.sub(raw, 1, 24) .. struct.pack('>I5I5I6', h.idle, h.max, h.filed) .. string.sub(raw, 41, 56)
  .. struct.pack('>I6', h.last) .. string.sub(raw, 63)
redis.call('SET', session, raw)
return {1, now, raw}
