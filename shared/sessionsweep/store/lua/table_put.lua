--[[ Sets a row of one of the deployment's tables.
KEYS
  1 rows      hash
ARGV
  1 row       its name
  2 value     text
  3 only_new  1: only if absent
RETURNS 1: the row is new, or 0
]]
local rows = KEYS[1]
local row, value, only_new = ARGV[1], ARGV[2], ARGV[3]
redis.call('UNLINK', rows .. ':none') -- heartbeats, holds and alarms must work on a full server
if only_new == '1' then return redis.call('HSETNX', rows, row, value) end
return redis.call('HSET', rows, row, value)
