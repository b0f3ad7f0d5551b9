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
--@include wheel
local prefix = string.sub(session, 1, -23)
local sid = string.sub(session, -20)
local rkey = prefix .. 'r:' .. sid
local raw = redis.call('GET', session)
if not raw then return false end
local h = header(raw)
local idle_end, old_end = dies(h)
if duration > 0 and (now >= idle_end or now >= old_end) then return false end
local till = now + duration
local held = redis.call('HGET', rkey, '@k')
local kept, session_till, pins, mine = {}, 0, {}, {}
for _, line in ipairs(lines(held)) do
  local who, when, what = string.match(line, '^(%S+) (%d+) (%S*)$')
  when = tonumber(when)
  if who == token then
    mine[what] = true
  elseif when > now then
    kept[#kept + 1] = line
    if what == '' then session_till = math.max(session_till, when) else pins[what] = math.max(pins[what] or 0, when) end
  end
end
local v
if rid ~= '' then
  local value = redis.call('HGET', rkey, rid)
  if duration > 0 then
    if not value then return false end
    v = res(value)
    if v.state ~= 'l' then return false end
  end
end
if duration > 0 then
  kept[#kept + 1] = token .. ' ' .. string.format('%.0f', till) .. ' ' .. rid
  if rid == '' then session_till = math.max(session_till, till) else pins[rid] = math.max(pins[rid] or 0, till) end
  mine[rid] = true
end
redis.call('UNLINK', prefix .. 'none')
if #kept > 0 then redis.call('HSET', rkey, '@k', table.concat(kept, '\n')) else redis.call('HDEL', rkey, '@k') end
for what in pairs(mine) do
  if what ~= '' then
    local value = redis.call('HGET', rkey, what)
    if value then
      local r = res(value)
      if r.state == 'l' then
        r.till = pins[what] or 0
        redis.call('HSET', rkey, what, pack(r))
      end
    end
  else
    h.keep = session_till
    idle_end, old_end = dies(h)
    local due = math.min(idle_end, old_end)
    if due < h.filed then h.filed = file(prefix, sid, due, width) end
    redis.call('SETRANGE', session, 34, struct.pack('>I6I6', h.filed, h.keep))
  end
end
-- the end must look for the keep-alive field as well as for resources
redis.call('SETRANGE', session, 1, string.char(bit.bor(h.flags, OWNS)))
return duration > 0 and till or 0
