-- when a record that is owed is due: its grace, its pin and its back-off are all waited out; only streams wait for nothing
local function due_of(value, ended)
  local state, kind = string.byte(value, 1, 2)
  if state == OWED then return till_of(value) end
  if kind == STREAM then return 0 end
  if state == INTENT then return ended end -- its writer holds the lock, or has not begun and will be refused
  return math.max(ended, till_of(value))
end

-- when an ended session's resources are due; nil while the session is live
local function ended_due(prefix, sid)
  if redis.call('EXISTS', prefix .. 's:' .. sid) == 1 then return nil end
  -- a tombstone that says no possible time is as one that is lost: what nobody can wait for is due
  local due = redis.call('HGET', prefix .. 't:' .. sid, 'due') or '0'
  return #due < 16 and string.match(due, '^%d+$') and tonumber(due) or 0
end

-- Sets a session's place in one location's queue by what it still owes there; answers how many it owes.
-- `ended`: when an ended session's resources are due (then every record not dead is owed, whatever its letter).
local function requeue(prefix, location, sid, all, number, ended)
  local earliest, owed, streams = FAR, 0, false
  for i = 1, #all, 2 do
    local value = all[i + 1]
    if is_rid(all[i]) and is_sound(value) then
      local state, kind = string.byte(value, 1, 2)
      if string.byte(value, 28) == number and state ~= DEAD then
        if ended or state == OWED then
          owed = owed + 1
          local due = due_of(value, ended)
          if due < earliest then earliest = due end
        elseif kind == STREAM then
          streams = true
        end
      end
    end
  end
  if owed > 0 then
    redis.call('ZADD', prefix .. 'q:' .. location, string.format('%.0f', earliest), sid)
  elseif streams then
    redis.call('ZADD', prefix .. 'q:' .. location, string.format('%.0f', FAR), sid)
  else
    redis.call('ZREM', prefix .. 'q:' .. location, sid)
  end
  return owed
end

-- A session that ended and has no record left owes nothing: its tombstone becomes a receipt with a TTL.
local function close_debt(prefix, sid, retention)
  local rkey, tkey = prefix .. 'r:' .. sid, prefix .. 't:' .. sid
  local left = redis.call('HLEN', rkey) - redis.call('HEXISTS', rkey, '@') - redis.call('HEXISTS', rkey, '@k')
  if left > 0 then return false end
  redis.call('UNLINK', rkey)
  if redis.call('EXISTS', tkey) == 1 then redis.call('PEXPIRE', tkey, retention) end
  return true
end

local function place_number(places, location)
  for i, place in ipairs(places) do
    if place == location then return i end
  end
  return 0
end
