--[[ A page of dead letters, oldest first. Writes nothing.
KEYS
  1 dead_letters  sorted set
ARGV
  1 offset        from this one
  2 limit         how many
RETURNS {{sid, rid, record, locations}, ...}
]]
local dead_letters = KEYS[1]
local offset, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
--@include layout
local prefix = string.sub(dead_letters, 1, -3)
local out = {}
for _, member in ipairs(redis.call('ZRANGE', dead_letters, offset, offset + limit - 1)) do
  local sid, rid = string.match(member, '^(%w+) (%S+)$')
  local found = sid and redis.pcall('HMGET', prefix .. 'r:' .. sid, rid, '@') or {}
  local value, places = found[1], found[2]
  if value and is_sound(value) then out[#out + 1] = {sid, rid, value, places} end
end
return out
