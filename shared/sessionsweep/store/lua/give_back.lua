--[[ Removes a session's place in a book, or shares of a user's quota.
KEYS
  1 book   sorted set
  2 quota  hash; the same as the book where there is none
ARGV
  1 sid     the session
  2 rid     empty: its place; an id: that resource's share; `*`: all shares of the session
  3 before  ms: nothing is removed if the place was taken, or its reservation ends, later than that; 0: always
RETURNS 1, or 0: there was none
]]
local book, quota = KEYS[1], KEYS[2]
local sid, rid, before = ARGV[1], ARGV[2], tonumber(ARGV[3])
local place = before > 0 and redis.call('ZSCORE', book, sid)
if place then
  place = tonumber(place)
  if place >= 1e15 then place = place - 1e15 end
  if place > before then return 0 end
end
redis.call('UNLINK', book .. ':none') -- giving back must work on a full server
if rid == '' then return redis.call('ZREM', book, sid) end
--@include shares
local freed, removed = 0, 0
local function drop(member)
  local size = redis.call('HGET', quota, member)
  if size then
    freed = freed + share(size)
    removed = removed + redis.call('HDEL', quota, member)
  end
end
if rid == '*' then
  for _, member in ipairs(redis.call('HKEYS', quota)) do
    if string.sub(member, 1, #sid) == sid then drop(member) end
  end
else
  drop(sid .. ' ' .. rid)
end
if removed > 0 and redis.call('HINCRBY', quota, '#', -freed) <= 0 and redis.call('HLEN', quota) == 1 then
  redis.call('UNLINK', quota)
end
return removed > 0 and 1 or 0
