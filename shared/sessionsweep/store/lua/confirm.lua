--[[ Makes a place in a book last.
KEYS
  1 book  sorted set
ARGV
  1 sid    the session
  2 bound  ms: when it was bound to it; 0: now, and a place that lasts already stays as it is
RETURNS 1
]]
local book = KEYS[1]
local sid, bound = ARGV[1], tonumber(ARGV[2])
--@include clock
local mine = tonumber(redis.call('ZSCORE', book, sid) or 0)
local place = 1e15 + (bound > 0 and bound or now)
-- the session is bound already: refused here, its owner would never get its token
redis.call('UNLINK', book .. ':none')
if mine < 1e15 or (bound > 0 and mine < place) then redis.call('ZADD', book, string.format('%.0f', place), sid) end
return 1
