--[[ Holds one session's keys against each other and repairs what lost writes broke.
KEYS
  1 session    string
ARGV
  1 width      of a wheel slot, ms
  2 grace      ms
  3 retention  ms that a receipt stays
RETURNS what was repaired, `damaged` if it can't be, or an empty text
]]
local session = KEYS[1]
local width, grace, retention = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
--@include clock
--@include layout
--@include books
--@include wheel
--@include ending
--@include queueing
local prefix = string.sub(session, 1, -23)
local sid = string.sub(session, -20)
local rkey, tkey = prefix .. 'r:' .. sid, prefix .. 't:' .. sid
redis.call('UNLINK', prefix .. 'none')
local raw = redis.call('GET', session)
if raw and #raw < 72 then return 'damaged' end
if raw then
  local h = header(raw)
  local slot = string.format('%.0f', h.filed)
  if redis.call('EXISTS', prefix .. 'w:' .. slot) == 1 and redis.call('ZSCORE', prefix .. 'w', slot) then return '' end
  local idle_end, old_end = dies(h)
  local filed = file(prefix, sid, math.max(now, math.min(idle_end, old_end)), width)
  redis.call('SETRANGE', session, 34, struct.pack('>I6', filed))
  return 'refiled'
end
local all = redis.call('HGETALL', rkey)
local places, any, missing, damaged = {}, false, false, false
for i = 1, #all, 2 do
  if all[i] == '@' then places = lines(all[i + 1]) end
  if is_record(all[i]) then
    any = true
    damaged = damaged or not is_rid(all[i]) or not is_sound(all[i + 1])
  end
end
local buried = redis.call('EXISTS', tkey) == 1
if not any then
  if #all > 0 then redis.call('UNLINK', rkey) end
  if buried and redis.call('PTTL', tkey) == -1 then
    event(prefix, 'e', 'session_reclaimed', 's', sid)
    redis.call('PEXPIRE', tkey, retention)
    return 'closed'
  end
  return ''
end
if not buried then
  -- the record vanished with lost writes and no end was recorded: its resources are owed, after a grace
  books_must_be_sound(prefix, places)
  local records = #all / 2
  for i = 1, #all, 2 do
    if not is_record(all[i]) then records = records - 1 end
  end
  redis.call('HSET', tkey, 'reason', 'lost', 'ended', string.format('%.0f', now), 'created', '0', 'user', '',
    'owned', records, 'base', string.format('%.0f', now + grace), 'due', string.format('%.0f', now + grace))
  local n, bytes = 0, 0
  for i = 1, #all, 2 do
    if is_record(all[i]) and is_sound(all[i + 1]) then
      local v = res(all[i + 1])
      if v.state == 'l' or v.state == 'i' then
        n, bytes = n + 1, bytes + (v.kind == 's' and 0 or v.size)
        if v.kind == 's' then count('streams', -1) end
        if v.till < now + grace then
          v.state, v.till = 'o', now + grace
          redis.call('HSET', rkey, all[i], pack(v))
        end
      end
    end
  end
  redis.call('HSET', tkey, 'b_owned', string.format('%.0f', bytes))
  count('active', -n)
  count('owed', n)
  count('b_active', -bytes)
  count('b_owed', bytes)
  count('ended', 1)
  count('ended:lost', 1)
  close_books(prefix)
  event(prefix, 'e', 'session_ended', 's', sid, 'reason', 'lost', 'owed', n)
  all = redis.call('HGETALL', rkey)
end
for number, place in ipairs(places) do
  -- an entry that never comes due was made for live streams: it is as good as none
  if tonumber(redis.call('ZSCORE', prefix .. 'q:' .. place, sid) or FAR) >= FAR then
    if requeue(prefix, place, sid, all, number, ended_due(prefix, sid)) > 0 then
      redis.call('HSET', prefix .. 'l', place, 1)
      missing = true
    end
  end
end
if not buried then return 'buried' end
if damaged then return 'damaged' end
return missing and 'requeued' or ''
