--[[ Removes a row of one of the deployment's tables.
KEYS
  1 rows  hash
ARGV
  1 row   its name
  2 told  packed: (2+n field or value)*, the event that tells that it was there; empty: none does
RETURNS 1, or 0: there was none
]]
local rows = KEYS[1]
local row, told = ARGV[1], ARGV[2]
--@include books
--@include packed
if redis.call('HDEL', rows, row) == 0 then return 0 end
if told ~= '' then remark(string.match(rows, '^.*}:'), unpack(unpacked(told))) end
return 1
