--[[ A dead letter becomes owed again, due now.
KEYS
  1 resources  hash
ARGV
  1 rid        resource id
RETURNS 1, or 0: it isn't a dead letter
]]
local resources = KEYS[1]
local rid = ARGV[1]
--@include clock
--@include layout
--@include books
--@include ending
--@include receipt
local prefix = string.sub(resources, 1, -23)
local sid = string.sub(resources, -20)
local value, at = unpack(redis.call('HMGET', resources, rid, '@'))
if not value then return 0 end
local v = res(value)
if v.state ~= 'd' then return 0 end
redis.call('UNLINK', prefix .. 'none') -- must work on a full server; a slot being moved refuses here
redis.call('ZREM', prefix .. 'dl', sid .. ' ' .. rid)
v.state, v.till, v.tries = 'o', now, 0
redis.call('HSET', resources, rid, pack(v))
local place = lines(at)[v.loc]
redis.call('HSET', prefix .. 'l', place, 1)
redis.call('ZADD', prefix .. 'q:' .. place, 'LT', string.format('%.0f', now), sid)
count('dead', -1)
count('owed', 1)
count('b_owed', v.size)
close_books(prefix)
receipt(prefix, sid, place, {dead = -1})
nudge(prefix, place)
return 1
