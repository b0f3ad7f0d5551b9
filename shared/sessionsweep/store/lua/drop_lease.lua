--[[ Gives a lease back, if it is still this holder's.
KEYS
  1 lease  string
ARGV
  1 token  the holder's
RETURNS 1, or 0
]]
local lease = KEYS[1]
local token = ARGV[1]
if redis.call('GET', lease) == token then return redis.call('DEL', lease) end
return 0
