--[[ Notes orphan candidates at first sight; says which were first seen long enough ago in this server's run.
KEYS
  1 sightings  sorted set with TTL
ARGV
  1 age        ms since the first sighting
  2 cap        names kept
  3 ttl        ms
  4 names      separated by newlines
  5 forget     names to drop, separated by newlines
RETURNS {1 or 0 for each name}
]]
local sightings = KEYS[1]
local age, cap, ttl = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local names, forget = ARGV[4], ARGV[5]
--@include clock
redis.call('UNLINK', sightings .. ':none') -- finding orphans must work on a full server
-- what was sighted and never again confirmed (it found its owner, or went) makes room after a while
redis.call('ZREMRANGEBYSCORE', sightings, '-inf', string.format('%.0f', now - tonumber(ttl)))
for name in string.gmatch(forget, '[^\n]+') do redis.call('ZREM', sightings, name) end
local old = {}
local seen = redis.call('ZCARD', sightings)
for name in string.gmatch(names, '[^\n]+') do
  local first = redis.call('ZSCORE', sightings, name)
  if first then
    old[#old + 1] = now - tonumber(first) >= age and 1 or 0
  else
    if seen <= cap then
      redis.call('ZADD', sightings, now, name)
      seen = seen + 1
    end
    old[#old + 1] = 0
  end
end
if seen > 0 then redis.call('PEXPIRE', sightings, ttl) end
return old
