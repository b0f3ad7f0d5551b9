-- Moves one resource of a live session to owed, and keeps the session's counts and bytes with it.
local function give_back_quota(prefix, sid, raw, h, rid)
  if bit.band(h.flags, QUOTA) > 0 and #raw > 72 then
    redis.call('RPUSH', prefix .. 'o', 'user\0' .. sid .. '\0' .. struct.unpack('>I2c0', raw, 73) .. '\0' .. rid)
  end
end

local function uncount(h, v)
  if v.kind == 's' then h.streams = h.streams - 1 else h.resources = h.resources - 1; h.bytes = h.bytes - v.size end
end

local function save_counts(prefix, sid, h)
  redis.call('SETRANGE', prefix .. 's:' .. sid, 46, struct.pack('>I2I2I6', h.resources, h.streams, h.bytes))
end

local function owe(prefix, sid, raw, h, rid, v, place, now)
  if v.state == 'i' then redis.call('ZREM', prefix .. 'i', sid .. ' ' .. rid) end
  local pinned = v.state == 'l' and v.till or 0
  v.state = 'o'
  v.till = math.max(now, pinned)
  redis.call('HSET', prefix .. 'r:' .. sid, rid, pack(v))
  redis.call('HSET', prefix .. 'l', place, 1)
  redis.call('ZADD', prefix .. 'q:' .. place, 'LT', string.format('%.0f', v.till), sid)
  if v.till <= now then nudge(prefix, place) end
  uncount(h, v)
  give_back_quota(prefix, sid, raw, h, rid)
  count('active', -1)
  count('owed', 1)
  count('b_active', -v.size)
  count('b_owed', v.size)
end
