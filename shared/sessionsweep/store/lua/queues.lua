--[[ Every location's queue: how many entries, how long the oldest has been due. Writes nothing.
KEYS
  1 locations  hash
RETURNS {{location, entries, ms}, ...}
]]
local locations = KEYS[1]
--@include clock
local prefix = string.sub(locations, 1, -2)
local out = {}
for _, location in ipairs(redis.call('HKEYS', locations)) do
  local queue = prefix .. 'q:' .. location
  local first = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')[2]
  local due = first and tonumber(first) <= now and math.max(1, now - tonumber(first)) or 0 -- due just now counts
  out[#out + 1] = {location, redis.call('ZCOUNT', queue, '-inf', '(1000000000000000'), due}
end
return out
