--[[ A job keeps a session alive, or pins one resource, until a moment; or takes that back. The latest of all counts.
KEYS
  1 session   string
ARGV
  1 token     the job's
  2 duration  ms from now; 0: take it back
  3 rid       the resource, or empty: the session
  4 width     of a wheel slot, ms
RETURNS until when (ms), 0 when taken back, or false: not live
]]
local session = KEYS[1]
local token, duration, rid, width = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
--@include clock
--@include layout
--@include run
--@include over
--@include books
--@include wheel
--@include ending
local prefix = string.sub(session, 1, -23)
local sid = string.sub(session, -20)
local rkey = prefix .. 'r:' .. sid
local raw = redis.call('GET', session)
local h = raw and header(raw)
if duration > 0 then
  if not raw then return false end
  if over(prefix, h, now) then return false end
end

-- what stands, without this token's: the latest for the session and for each resource
local kept, session_till, pins, mine, in_force = {}, 0, {}, {}, false
for _, line in ipairs(lines(redis.call('HGET', rkey, '@k'))) do
  local who, when, what = string.match(line, '^(%S+) (%d+) (%S*)$')
  when = tonumber(when)
  if who == token then
    mine[what] = true
    if when > now then in_force = true end
  elseif when > now then
    kept[#kept + 1] = line
    if what == '' then session_till = math.max(session_till, when) else pins[what] = math.max(pins[what] or 0, when) end
  end
end
local till = now + duration
if duration > 0 then
  if rid ~= '' then
    local value = redis.call('HGET', rkey, rid)
    if not value or res(value).state ~= 'l' then return false end
  end
  kept[#kept + 1] = token .. ' ' .. string.format('%.0f', till) .. ' ' .. rid
  if rid == '' then session_till = math.max(session_till, till) else pins[rid] = math.max(pins[rid] or 0, till) end
  mine[rid] = true
end

local buried = not raw and redis.call('HGET', prefix .. 't:' .. sid, 'base')
if not raw and not buried then return false end
redis.call('UNLINK', prefix .. 'none') -- taking back must work on a full server
if #kept > 0 then redis.call('HSET', rkey, '@k', table.concat(kept, '\n')) else redis.call('HDEL', rkey, '@k') end
for what in pairs(mine) do
  local value = what ~= '' and redis.call('HGET', rkey, what)
  if value then
    local v = res(value)
    if v.state == 'l' then
      v.till = pins[what] or 0
      redis.call('HSET', rkey, what, pack(v))
    end
  end
end
if raw and next(mine) then -- a token that defers nothing changes nothing
  h.keep = session_till
  local idle_end, old_end = dies(h)
  local due = math.min(idle_end, old_end)
  if math.ceil(due / width) * width < h.filed then h.filed = file(prefix, sid, due, width) end
  redis.call('SETRANGE', session, 34, struct.pack('>I6I6', h.filed, h.keep))
  -- the end must look for the keep-alive field as well as for resources
  redis.call('SETRANGE', session, 1, string.char(bit.bor(h.flags, OWNS)))
elseif not raw then
  -- the job outlived its session: what it deferred is due when the last job lets go
  local due = math.max(tonumber(buried), session_till)
  redis.call('HSET', prefix .. 't:' .. sid, 'due', string.format('%.0f', due))
  -- a lapsed deferral defers nothing any more, and must not pull leased entries forward
  for _, place in ipairs(in_force and lines(redis.call('HGET', rkey, '@')) or {}) do
    if redis.call('ZSCORE', prefix .. 'q:' .. place, sid) then
      redis.call('ZADD', prefix .. 'q:' .. place, 'LT', string.format('%.0f', math.max(now, due)), sid)
      if due <= now then nudge(prefix, place) end
    end
  end
end
return duration > 0 and till or 0
