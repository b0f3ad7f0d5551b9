--[[ Holds one session's keys against each other and repairs what lost writes and wrong clocks broke.
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
--@include backdating
local prefix = string.sub(session, 1, -23)
local sid = string.sub(session, -20)
local rkey, tkey = prefix .. 'r:' .. sid, prefix .. 't:' .. sid
redis.call('UNLINK', prefix .. 'none')
local raw = redis.call('GET', session)
if raw and #raw < 72 then return 'damaged' end
local steady, held = is_steady(prefix)
if raw then
  local h = header(raw)
  local backdated = steady and ahead(h.last)
  local places = bit.band(h.flags, OWNS) > 0 and lines(redis.call('HGET', rkey, '@')) or {}
  local stranded, moved, put_back = backdated, false, backdated
  for _, place in ipairs(places) do
    local score = tonumber(redis.call('ZSCORE', prefix .. 'q:' .. place, sid) or FAR)
    stranded = stranded or score > now + DAY and score < FAR
  end
  if stranded then
    local all = redis.call('HGETALL', rkey)
    put_back = backdate_records(prefix, sid, all, grace, backdated) or put_back
    moved = queue_again(prefix, sid, places, all, nil, now + (put_back and AHEAD or DAY))
  end
  if backdated then
    -- never when it was made: were the clock behind after all, it would have expired when that is right again, and no
    -- hold stops that
    h.last = now
    redis.call('SETRANGE', session, 56, struct.pack('>I6', h.last))
  end
  local slot = string.format('%.0f', h.filed)
  local idle_end, old_end = dies(h)
  local due = math.max(now, math.min(idle_end, old_end))
  local refiled = redis.call('EXISTS', prefix .. 'w:' .. slot) == 0 or not redis.call('ZSCORE', prefix .. 'w', slot)
    or h.filed > (backdated and due + width or math.max(due, held) + math.max(width, DAY))
  if refiled then redis.call('SETRANGE', session, 34, struct.pack('>I6', (file(prefix, sid, due, width)))) end
  return put_back and 'backdated' or moved and 'requeued' or refiled and 'refiled' or ''
end
local all = redis.call('HGETALL', rkey)
local places, any, damaged = {}, false, false
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
local put_back = backdate_records(prefix, sid, all, grace, false)
put_back = backdate_tombstone(prefix, sid, all, grace) or put_back
local missing = queue_again(prefix, sid, places, all, ended_due(prefix, sid), now + (put_back and AHEAD or DAY))
if not buried then return 'buried' end
if damaged then return 'damaged' end
return put_back and 'backdated' or missing and 'requeued' or ''
