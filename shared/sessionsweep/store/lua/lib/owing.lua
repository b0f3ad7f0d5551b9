-- Moves one resource of a live session to owed, and keeps the session's counts and bytes with it.
local function give_back_quota(prefix, sid, raw, h, rid)
  if bit.band(h.flags, QUOTA) > 0 and #raw > 72 then
    redis.call('RPUSH', prefix .. 'o', 'user\0' .. sid .. '\0' .. struct.unpack('>I2c0', raw, 73) .. '\0' .. rid)
  end
end

local function uncount(h, v)
  if v.kind == 's' then
    h.streams = h.streams - 1
    count('streams', -1)
  else
    h.resources, h.bytes = h.resources - 1, h.bytes - v.size
  end
end

local function save_counts(prefix, sid, h)
  redis.call('SETRANGE', prefix .. 's:' .. sid, 46, struct.pack('>I2I2I6', h.resources, h.streams, h.bytes))
end

local function queue_up(prefix, sid, place, due, now)
  redis.call('HSET', prefix .. 'l', place, 1)
  redis.call('ZADD', prefix .. 'q:' .. place, 'LT', string.format('%.0f', due), sid)
  if due <= now then nudge(prefix, place) end
end

local function count_owed(resources, bytes)
  count('active', -resources)
  count('owed', resources)
  count('b_active', -bytes)
  count('b_owed', bytes)
end

local function owe(prefix, sid, raw, h, rid, v, place, now)
  books_must_be_sound(prefix, {place})
  if v.state == 'i' then redis.call('ZREM', prefix .. 'i', sid .. ' ' .. rid) end
  local pinned = v.state == 'l' and v.till or 0
  v.state = 'o'
  v.till = math.max(now, pinned)
  redis.call('HSET', prefix .. 'r:' .. sid, rid, pack(v))
  queue_up(prefix, sid, place, v.till, now)
  uncount(h, v)
  give_back_quota(prefix, sid, raw, h, rid)
  count_owed(1, v.size)
end
