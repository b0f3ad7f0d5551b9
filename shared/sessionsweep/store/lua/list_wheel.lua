--[[ Ids filed at or after a cursor, in due order. Writes nothing.
KEYS
  1 wheel   sorted set of slot ends
ARGV
  1 slot    begin at this slot
  2 offset  and this place in it
  3 limit   ids
RETURNS {ids, next slot, next offset}; next slot 0: the end
]]
local wheel = KEYS[1]
local slot, offset, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
--@include layout
local ids = {}
local prefix = string.sub(wheel, 1, -2)
for _ = 1, 200 do -- at most 200 slots a call, so that a sparse wheel stays cheap
  local name = redis.call('ZRANGEBYSCORE', wheel, slot, '+inf', 'LIMIT', 0, 1)[1]
  if not name then return {ids, '0', 0} end
  if name ~= slot then offset = 0 end
  local want = limit - #ids
  local found = redis.call('LRANGE', prefix .. 'w:' .. name, offset, offset + want - 1)
  for _, sid in ipairs(found) do
    if is_id(sid) then ids[#ids + 1] = sid end
  end
  if #found == want then return {ids, name, offset + want} end
  slot, offset = string.format('%.0f', tonumber(name) + 1), 0
end
return {ids, slot, offset}
