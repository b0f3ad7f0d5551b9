--[[ Makes a place in a book last.
KEYS
  1 book  sorted set
ARGV
  1 sid   the session
RETURNS 1
]]
local book = KEYS[1]
local sid = ARGV[1]
--@include clock
local mine = redis.call('ZSCORE', book, sid)
-- the session is bound already: refused here, its owner would never get its token
redis.call('UNLINK', book .. ':none')
if not mine or tonumber(mine) < 1e15 then redis.call('ZADD', book, string.format('%.0f', 1e15 + now), sid) end
return 1
