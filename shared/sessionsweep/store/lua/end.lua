--[[ Ends a session in one step; what it owned is owed from then on.
KEYS
  1 session   string
ARGV
  1 reason    why
  2 only_due  1: only if it is idle or too old, and for that reason
  3 grace     ms
  4 hold      ms
  5 idle_for  ms: with only_due, idle is who was untouched for so long; 0: for the session's own timeout
RETURNS {done, reason or false, owed, locations, now, live}
]]
local session = KEYS[1]
local reason, only_due, grace, hold = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local idle_for = tonumber(ARGV[5])
--@include clock
--@include layout
--@include books
--@include run
--@include hold
--@include ending
local prefix = string.sub(session, 1, -23)
local sid = string.sub(session, -20)
local raw = redis.call('GET', session)
if not raw then
  local was = redis.call('HGET', prefix .. 't:' .. sid, 'reason')
  return {0, was, 0, {}, now, 0}
end
local h = header(raw)
if only_due == '1' then
  local idle_end, old_end = dies(h)
  if idle_for > 0 then idle_end = math.max(h.last + idle_for, h.keep) end
  redis.call('UNLINK', prefix .. 'none')
  if now >= old_end then reason = 'expired'
  elseif now >= idle_end and server_run(prefix, now, hold) == 0 then reason = 'idle'
  else return {0, false, 0, {}, now, 1} end
end
local owed, places = finish(prefix, sid, raw, h, now, reason, grace)
close_books(prefix)
return {1, reason, owed, places, now, 0}
