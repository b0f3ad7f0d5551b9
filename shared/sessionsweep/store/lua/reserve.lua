--[[ Reserves a session's place in a book. Removes nobody: who may be gone is told, and the caller looks.
KEYS
  1 book      sorted set: deadline of a reservation, or 1e15 + when bound
ARGV
  1 sid       the session
  2 limit     places, 0: no limit
  3 duration  ms
  4 suspects  how many to tell
  5 bound     ms: a place that lasts counts as bound then, if it was earlier
RETURNS {1 or 0, deadline, places taken, suspects}
]]
local book = KEYS[1]
local sid, limit, duration, suspects = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local bound = tonumber(ARGV[5])
--@include clock
local deadline = now + duration
local mine = redis.call('ZSCORE', book, sid)
local taken = redis.call('ZCARD', book)
if mine and tonumber(mine) >= 1e15 then
  if tonumber(mine) < 1e15 + bound then redis.call('ZADD', book, string.format('%.0f', 1e15 + bound), sid) end
  return {1, deadline, taken, {}}
end
if not mine and limit > 0 and taken >= limit then
  local told = redis.call('ZRANGEBYSCORE', book, '-inf', string.format('%.0f', now), 'LIMIT', 0, suspects)
  if #told < suspects then
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', book, '1000000000000000', '+inf', 'LIMIT', 0, suspects - #told)) do
      told[#told + 1] = member
    end
  end
  return {0, deadline, taken, told}
end
redis.call('ZADD', book, deadline, sid)
return {1, deadline, mine and taken or taken + 1, {}}
