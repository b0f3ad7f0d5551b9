--[[ Whether a place may be taken away: confirmed, or its reservation has lapsed. Writes nothing.
KEYS
  1 book  sorted set
ARGV
  1 sid   the session
RETURNS 1, or 0: it may still be bound, or there is none
]]
local book = KEYS[1]
local sid = ARGV[1]
--@include clock
local mine = redis.call('ZSCORE', book, sid)
if not mine then return 0 end
mine = tonumber(mine)
return (mine >= 1e15 or mine <= now) and 1 or 0
