--[[ Adds to counters.
KEYS
  1 counters  hash
ARGV
  * pairs     field, amount
RETURNS how many
]]
local counters = KEYS[1]
redis.call('UNLINK', counters .. ':none')
for i = 1, #ARGV, 2 do redis.call('HINCRBY', counters, ARGV[i], ARGV[i + 1]) end
return #ARGV / 2
