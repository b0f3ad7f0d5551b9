--[[ One step over the head of the wheel: each id is ended, filed again at its true slot, or dropped as stale.
KEYS
  1 wheel    sorted set of slot ends
ARGV
  1 width    of a slot, ms
  2 grace    ms
  3 hold     ms
  4 limit    ids
  5 bound    ms: slots that ended by then; 0: now
  6 observe  1: tell who would be ended, end nobody
RETURNS {idle, expired, refiled, stale, more, now, owed, held until, would-be ends, newer}; newer 1: stopped at a newer release's record
]]
local wheel = KEYS[1]
local width, grace, hold = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local limit, bound, observe = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
--@include clock
--@include layout
--@include books
--@include damage
--@include wheel
--@include run
--@include hold
--@include ending
local prefix = string.sub(wheel, 1, -2)
local horizon = now
if bound > 0 and bound < now then horizon = bound end
local function head() -- name and end of the first slot
  local found = redis.call('ZRANGE', wheel, 0, 0, 'WITHSCORES')
  return found[1], tonumber(found[2])
end
local first, ends = head()
if not first or ends > horizon then return {0, 0, 0, 0, 0, now, 0, 0, {}, 0} end
redis.call('UNLINK', prefix .. 'none') -- sweeping must work on a full server
local slot, ids = prefix .. 'w:' .. first, nil
if first == string.format('%.0f', ends) then
  ids = redis.pcall('LRANGE', slot, 0, limit - 1)
end
if type(ids) ~= 'table' or ids.err then -- no slot of ours: it leaves the wheel, and keeps nobody waiting
  redis.call('ZREM', wheel, first)
  count('damaged', 1)
  close_books(prefix)
  return {0, 0, 0, 0, 1, now, 0, 0, {}, 0}
end

local idle, expired, refiled, stale, owed_in_all, would = 0, 0, 0, 0, 0, {}
local held -- asked once, and only when somebody is idle

local function look(sid, raw)
  local h = header(raw)
  if h.filed ~= tonumber(first) then
    stale = stale + 1
    return
  end
  -- liveness is read in the same step that ends: no touch can come between
  local idle_end, old_end = dies(h)
  local reason
  if now >= old_end then reason = 'expired'
  elseif now >= idle_end then
    held = held or (server_run(prefix, now, hold))
    if held == 0 then reason = 'idle' end
  end
  if reason and observe ~= '1' then
    owed_in_all = owed_in_all + finish(prefix, sid, raw, h, now, reason, grace)
    if reason == 'idle' then idle = idle + 1 else expired = expired + 1 end
    return
  end
  local due = math.min(idle_end, old_end)
  if due <= now then -- held, or only observed: looked at again then, or at the absolute end if that is earlier
    due = math.max(now + width, held or 0)
    if old_end > now and old_end < due then due = old_end end
  end
  if reason then would[#would + 1] = sid .. ' ' .. reason end
  local filed = file(prefix, sid, due, width)
  redis.call('SETRANGE', prefix .. 's:' .. sid, 34, struct.pack('>I6', filed))
  refiled = refiled + 1
end

local done, newer = 0, 0
for _, sid in ipairs(ids) do
  local raw = is_id(sid) and redis.pcall('GET', prefix .. 's:' .. sid)
  if type(raw) == 'table' and not string.find(raw.err, 'WRONGTYPE', 1, true) then return raw end
  -- a newer release wrote it: a newer sweeper goes on from here
  newer = type(raw) == 'string' and #raw > 0 and string.byte(raw) ~= 1 and 1 or 0
  if newer == 1 then break end
  done = done + 1
  -- what can't be read leaves the wheel, so that it keeps nobody waiting, and stays where it is
  if not raw then stale = stale + 1 else attempt(look, sid, raw) end
end
redis.call('LTRIM', slot, done, -1)
if redis.call('EXISTS', slot) == 0 then redis.call('ZREM', wheel, first) end
local following, following_ends = head()
close_books(prefix)
return {idle, expired, refiled, stale, following and following_ends <= horizon and newer == 0 and 1 or 0, now, owed_in_all,
  held or 0, would, newer}
