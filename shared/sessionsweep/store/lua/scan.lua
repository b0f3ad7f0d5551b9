--[[ A slice of all keys that name a session, for the anti-entropy pass. Writes nothing.
KEYS
  1 prefix  of the partition's keys
ARGV
  1 cursor  0 begins
  2 count   keys to look at
RETURNS {next cursor, keys}
]]
local prefix = KEYS[1]
local cursor, count = ARGV[1], ARGV[2]
local pattern = string.gsub(prefix, '[%[%]%*%?\\]', '\\%0') .. '[srt]:*'
return redis.call('SCAN', cursor, 'MATCH', pattern, 'COUNT', count)
