--[[ Uncommitted intents whose time has passed become owed; or live, where the server may have forgotten their commit.
KEYS
  1 intents  sorted set
ARGV
  1 limit    how many
  2 bound    ms: overdue by then; 0: now
  3 hold     ms that idle ends stop when the server is another one than before
RETURNS how many were looked at
]]
local intents = KEYS[1]
local limit, bound, hold = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
--@include clock
--@include layout
--@include books
--@include damage
--@include run
--@include hold
--@include ending
--@include owing
local prefix = string.sub(intents, 1, -2)
local horizon = now
if bound > 0 and bound < now then horizon = bound end
local late = redis.call('ZRANGEBYSCORE', intents, '-inf', string.format('%.0f', horizon), 'LIMIT', 0, limit)
redis.call('UNLINK', prefix .. 'none') -- cleaning must work on a full server
local since
if #late > 0 then
  local _
  _, since = server_run(prefix, now, hold)
end

local function look(sid, rid)
  local rkey = prefix .. 'r:' .. sid
  local raw = redis.call('GET', prefix .. 's:' .. sid)
  local value = redis.call('HGET', rkey, rid)
  if not raw or not value then return end
  local v, h = res(value), header(raw)
  if v.state == 'i' and v.created <= since then
    -- begun under a run of the server that is over: its commit may be among the writes that were lost, and its client
    -- was told that the file is kept. One that its writer abandoned goes with its session instead
    books_must_be_sound(prefix, {})
    event(prefix, 'e', 'intent_assumed_live', 's', sid, 'x', rid)
    v.state, v.till = 'l', 0
    redis.call('HSET', rkey, rid, pack(v))
  elseif v.state == 'i' then
    owe(prefix, sid, raw, h, rid, v, lines(redis.call('HGET', rkey, '@'))[v.loc], now)
    save_counts(prefix, sid, h)
    event(prefix, 'e', 'intent_overdue', 's', sid, 'x', rid)
  end
end

for _, member in ipairs(late) do
  local sid, rid = string.match(member, '^(%w+) (%S+)$')
  local raw = sid and redis.pcall('GET', prefix .. 's:' .. sid)
  if type(raw) == 'string' and #raw > 0 and string.byte(raw) ~= 1 then
    redis.call('ZADD', intents, string.format('%.0f', now + 60000), member) -- a newer release's: left to its sweeper
  else
    if sid then attempt(look, sid, rid) end
    redis.call('ZREM', intents, member)
  end
end
close_books(prefix)
return #late
