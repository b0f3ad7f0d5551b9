-- What became of what an ended session had at one location, in the field of its tombstone that is named as that location:
-- "<deleted> <bytes> <gone> <promoted> <forgotten> <last, ms> <failures> <last failure, ms> <dead letters> <error>".
-- `more` adds to it; a session without a tombstone has no receipt. Needs clock.
local RECEIPT = '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (.*)$'
local function receipt(prefix, sid, location, more)
  local key = prefix .. 't:' .. sid
  local reason, was = unpack(redis.call('HMGET', key, 'reason', location))
  if not reason then return end
  local n = {string.match(was or '', RECEIPT)}
  local function sum(i, by) return math.max(0, (tonumber(n[i]) or 0) + (by or 0)) end
  local left = (more.deleted or 0) + (more.gone or 0) + (more.promoted or 0) + (more.forgotten or 0)
  redis.call('HSET', key, location, string.format('%.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f ',
    sum(1, more.deleted), sum(2, more.bytes), sum(3, more.gone), sum(4, more.promoted), sum(5, more.forgotten),
    left > 0 and now or sum(6), sum(7, more.failed), more.failed and now or sum(8), sum(9, more.dead))
    .. (more.error or n[10] or ''))
end
