-- Times that were written while the server's clock was ahead, and that nobody would live to see. Needs clock, layout,
-- queueing.
local AHEAD, DAY = 60000, 86400000 -- ms
local function ahead(moment) return moment > now + AHEAD end

-- Whether the clock has not gone back for a day, and until when idle ends are held. A time that lies ahead says that one
-- of two clocks was wrong, not which: were sessions set back while it is behind, all would end when it is right again.
local function is_steady(prefix)
  local latest, since, held = unpack(redis.call('HMGET', prefix .. 'h', 'latest', 'steady', 'until'))
  latest, since = tonumber(latest), tonumber(since)
  local back = not latest or not since or ahead(latest)
  if back then since = now end
  if back or now > latest + AHEAD then
    redis.call('HSET', prefix .. 'h', 'latest', string.format('%.0f', now), 'steady', string.format('%.0f', since))
  end
  return now - since >= DAY, tonumber(held) or 0
end

-- until when jobs defer each resource, and (as '') the session's end: whatever clock said so, it is their word
local function deferrals(all)
  local latest = {}
  for i = 1, #all, 2 do
    for _, line in ipairs(all[i] == '@k' and lines(all[i + 1]) or {}) do
      local moment, about = string.match(line, '^%S+ (%d+) (%S*)$')
      if moment then latest[about] = math.max(latest[about] or 0, tonumber(moment)) end
    end
  end
  return latest
end

-- Records of one session, in `all` too. `touched`: those of a live session whose own times lay ahead. Answers whether any
-- was changed.
local function backdate_records(prefix, sid, all, grace, touched)
  local any, kept = false, deferrals(all)
  local latest = now + math.max(DAY, grace) -- no back-off and no grace lasts longer
  for i = 1, #all, 2 do
    local rid, value = all[i], all[i + 1]
    if is_record(rid) and is_rid(rid) and is_sound(value) then
      local v, changed = nil, false
      if string.byte(value) == OWED and till_of(value) > math.max(latest, kept[rid] or 0) then
        v, changed = res(value), true
        v.till = now + grace
      elseif touched then
        v = res(value)
        changed = ahead(v.created) or ahead(v.used)
        if v.state == 'i' and ahead(v.created) then
          v.till = now + v.till - v.created
          redis.call('ZADD', prefix .. 'i', string.format('%.0f', v.till), sid .. ' ' .. rid)
        end
        v.created, v.used = math.min(v.created, now), math.min(v.used, now)
      end
      if changed then
        all[i + 1] = pack(v)
        redis.call('HSET', prefix .. 'r:' .. sid, rid, all[i + 1])
        any = true
      end
    end
  end
  return any
end

-- A tombstone that was written by such a clock is due after a grace from now, or when its jobs let go.
local function backdate_tombstone(prefix, sid, all, grace)
  local tkey = prefix .. 't:' .. sid
  local ended, base = unpack(redis.call('HMGET', tkey, 'ended', 'base'))
  if not ahead(tonumber(ended or 0) or 0) then return false end
  base = math.min(tonumber(base or 0) or 0, now + grace)
  redis.call('HSET', tkey, 'ended', string.format('%.0f', now), 'base', string.format('%.0f', base),
    'due', string.format('%.0f', math.max(base, deferrals(all)[''] or 0)))
  return true
end

-- Puts a session where it belongs in each queue that has it nowhere (an entry that never comes due, made for live streams,
-- is as good as none) or later than `latest`. Answers whether it was missing anywhere.
local function queue_again(prefix, sid, places, all, ended, latest)
  local missing = false
  for number, place in ipairs(places) do
    local key = prefix .. 'q:' .. place
    local was = tonumber(redis.call('ZSCORE', key, sid) or FAR)
    if was > latest and requeue(prefix, place, sid, all, number, ended) > 0
      and (was >= FAR or tonumber(redis.call('ZSCORE', key, sid)) < was) then
      redis.call('HSET', prefix .. 'l', place, 1)
      missing = true
    end
  end
  return missing
end
