--[[ Removes a row of one of the deployment's tables.
KEYS
  1 rows  hash
ARGV
  1 row   its name
  2 told  packed: (2+n field or value)*, the event that tells that it was there; empty: none does
  3 if_   1: only if it says what follows
  4 only  what it must say
RETURNS 1, or 0: there was none
]]
local rows = KEYS[1]
local row, told, if_, only = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
--@include books
--@include packed
if if_ == '1' and redis.call('HGET', rows, row) ~= only then return 0 end
if redis.call('HDEL', rows, row) == 0 then return 0 end
if told ~= '' then remark(string.match(rows, '^.*}:'), unpack(unpacked(told))) end
return 1
