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
--@include run
--@include over
--@include wheel
--@include renewing
local prefix = string.sub(session, 1, -23)
local raw = redis.call('GET', session)
if not raw then return {0, now} end
if over(prefix, header(raw), now) then return {0, now} end
redis.call('UNLINK', prefix .. 'none')
raw = renewed(session, raw, now, idle, max, width)
redis.call('SET', session, raw)
return {1, now, raw}
