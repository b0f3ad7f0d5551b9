--[[ Sets a row of one of the deployment's tables.
KEYS
  1 rows      hash
ARGV
  1 row       its name
  2 value     text
  3 only_new  1: only if absent
  4 told      packed: (2+n field or value)*, the event that tells of another value than before; empty: none does
RETURNS 1: the row is new, or 0
]]
local rows = KEYS[1]
local row, value, only_new, told = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
--@include books
--@include packed
redis.call('UNLINK', rows .. ':none') -- heartbeats, holds and alarms must work on a full server
if told ~= '' then
  local was = redis.call('HGET', rows, row)
  if was ~= value and not (was and only_new == '1') then remark(string.match(rows, '^.*}:'), unpack(unpacked(told))) end
end
if only_new == '1' then return redis.call('HSETNX', rows, row, value) end
return redis.call('HSET', rows, row, value)
