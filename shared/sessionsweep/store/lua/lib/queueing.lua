-- when one owed record is due: its grace, its pin and its back-off are all waited out
local function due_of(v, ended)
  if v.state == 'o' then return v.till end
  if v.state == 'i' then return ended end -- its writer holds the lock, or has not begun and will be refused
  return math.max(ended, v.till)
end

-- when an ended session's resources are due; nil while the session is live
local function ended_due(prefix, sid)
  if redis.call('EXISTS', prefix .. 's:' .. sid) == 1 then return nil end
  return tonumber(redis.call('HGET', prefix .. 't:' .. sid, 'due') or '0')
end

-- Sets a session's place in one location's queue by what it still owes there; answers how many it owes.
-- `ended`: when an ended session's resources are due (then every record not dead is owed, whatever its letter).
local function requeue(prefix, location, sid, all, number, ended)
  local earliest, owed, streams = FAR, 0, false
  for i = 1, #all, 2 do
    if is_record(all[i]) then
      local v = res(all[i + 1])
      if v.loc == number and v.state ~= 'd' then
        if v.state == 'o' or ended then
          owed = owed + 1
          earliest = math.min(earliest, due_of(v, ended))
        elseif v.kind == 's' then
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
