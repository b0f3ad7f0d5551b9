-- Ends one session: its record goes, and what it owned is owed. O(locations), never O(resources).
local function nudge(prefix, location)
  -- pcall: a user without rights to the channel must not leave a session ended half; the queue is what counts
  redis.pcall('PUBLISH', string.match(prefix, '^(.-):{') .. ':nudge:' .. location, location)
end

-- Raises before anything is written where a key has another type than ours: a session that is ended half owes nothing to
-- anybody. Asked once a call and key. `own`: it is one session's, which then stops only itself.
local known_types = {}
local function must_be(key, kind, own)
  if known_types[key] then return end
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then
    error({err = (own and 'DAMAGED ' or 'UNUSABLE ') .. key .. ' is a ' .. found .. ', not a ' .. kind})
  end
  known_types[key] = true
end
local function books_must_be_sound(prefix, places)
  must_be(prefix .. 'c', 'hash')
  must_be(prefix .. 'ev', 'stream')
  must_be(prefix .. 'o', 'list')
  must_be(prefix .. 'l', 'hash')
  for _, place in ipairs(places) do must_be(prefix .. 'q:' .. place, 'zset') end
end

local RESERVED = 60001 -- ms: a reservation lasts 60 s, its last millisecond included
local function whose(raw)
  if #raw <= 72 then return '', '' end
  local ok, user, at = pcall(struct.unpack, '>I2c0', raw, 73)
  local alias
  if ok then ok, alias = pcall(struct.unpack, '>Bc0', raw, at) end
  if not ok then error({err = 'DAMAGED a session is cut short'}) end
  return user, alias
end
local function finish(prefix, sid, raw, h, now, reason, grace)
  local rkey = prefix .. 'r:' .. sid
  local places, records
  if bit.band(h.flags, OWNS) > 0 then
    local at, kept = unpack(redis.call('HMGET', rkey, '@', '@k'))
    records = redis.call('HLEN', rkey) - (at and 1 or 0) - (kept and 1 or 0)
    places = lines(at)
  end
  books_must_be_sound(prefix, places or {})
  if places then must_be(prefix .. 't:' .. sid, 'hash', true) end
  local user, alias = whose(raw)
  -- first: a write that a full server allows opens the way for the rest. And a slot that is being moved to another server
  -- refuses it, for the key isn't here: before the record is gone, not between it and the tombstone
  redis.call('UNLINK', prefix .. 'none')
  redis.call('UNLINK', prefix .. 's:' .. sid)

  local base = now
  local idle, old = dies(h)
  if reason == 'idle' then base = math.min(now, idle) + grace end
  if reason == 'expired' then base = math.min(now, old) + grace end
  local due = math.max(base, h.keep) -- a job that keeps it alive defers destruction, never the end

  if alias ~= '' then redis.call('DEL', prefix .. 'a:' .. alias) end
  local owed = h.resources + h.streams
  if records and records > 0 then
    redis.call('HSET', prefix .. 't:' .. sid, 'reason', reason, 'ended', string.format('%.0f', now),
      'owned', records, 'b_owned', string.format('%.0f', h.bytes), 'created', string.format('%.0f', h.created), 'user', user,
      'base', string.format('%.0f', base), 'due', string.format('%.0f', due))
    for _, place in ipairs(places) do
      redis.call('HSET', prefix .. 'l', place, 1)
      -- a process's streams are closed at once: the grace is for requests that still read a file
      local when = string.sub(place, 1, 2) == 'p.' and now or due
      redis.call('ZADD', prefix .. 'q:' .. place, 'LT', string.format('%.0f', when), sid)
      if when <= now then nudge(prefix, place) end
    end
    count('active', -owed)
    count('owed', owed)
    count('b_active', -h.bytes)
    count('b_owed', h.bytes)
    count('streams', -h.streams)
  else
    if records then redis.call('UNLINK', rkey) end
    places = {}
    -- no tombstone says that it was: a `create` that is sent again, for its answer was lost, or that another caller sends
    -- for the same token, would make it anew without a place, for as long as what he reserved lasts
    if bit.band(h.flags, BOOK_USER + BOOK_TOTAL) > 0 or now - h.created < RESERVED then
      redis.call('SET', prefix .. 'x:' .. sid, string.format('%.0f', now + RESERVED), 'PX', RESERVED)
    end
  end
  count('ended', 1)
  count('ended:' .. reason, 1)
  count('lifetime', math.max(0, now - h.created))
  if bit.band(h.flags, BOOK_USER) > 0 then redis.call('RPUSH', prefix .. 'o', 'user\0' .. sid .. '\0' .. user .. '\0') end
  if bit.band(h.flags, BOOK_TOTAL) > 0 then redis.call('RPUSH', prefix .. 'o', 'total\0' .. sid .. '\0\0') end
  if bit.band(h.flags, QUOTA) > 0 then redis.call('RPUSH', prefix .. 'o', 'user\0' .. sid .. '\0' .. user .. '\0*') end
  event(prefix, 'e', 'session_ended', 's', sid, 'reason', reason, 'owed', owed)
  return owed, places
end
