--[[ Ids filed at or after a cursor, in due order. Writes nothing.
KEYS
  1 wheel   sorted set of slot ends
ARGV
  1 slot    begin at this slot
  2 offset  and this place in it
  3 limit   ids
  4 after   the id before that place, or empty: where the place is if ids have left the slot's head since
RETURNS {ids, next slot, next offset}; next slot 0: the end
]]
local wheel = KEYS[1]
local slot, offset, limit, after = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
--@include layout
local ids = {}
local prefix = string.sub(wheel, 1, -2)
for _ = 1, 200 do -- at most 200 slots a call, so that a sparse wheel stays cheap
  local name = redis.call('ZRANGEBYSCORE', wheel, slot, '+inf', 'LIMIT', 0, 1)[1]
  if not name then return {ids, '0', 0} end
  if name ~= slot then offset = 0 end
  local key = prefix .. 'w:' .. name
  if offset > 0 and after ~= '' and redis.call('LINDEX', key, offset - 1) ~= after then
    local places = redis.call('LPOS', key, after, 'COUNT', 0, 'MAXLEN', offset)
    offset = #places > 0 and places[#places] + 1 or 0
  end
  -- a page ends at an id, by which its end is found again: what is none counts for nothing
  repeat
    local found = redis.call('LRANGE', key, offset, offset + limit - 1)
    for n, sid in ipairs(found) do
      if is_id(sid) then ids[#ids + 1] = sid end
      if #ids == limit then return {ids, name, offset + n} end
    end
    offset = offset + #found
  until #found < limit
  slot, offset = string.format('%.0f', tonumber(name) + 1), 0
end
return {ids, slot, offset}
