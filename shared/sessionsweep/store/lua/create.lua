--[[ Makes a session and files it in the wheel; or, by an alias, returns the one that the alias names.
KEYS
  1 session   string
ARGV
  1 mac       16 bytes
  2 idle      ms
  3 max       ms, 0: none
  4 width     of a wheel slot, ms
  5 flags     header flags
  6 fps       6 bytes: fingerprints of both families
  7 tail      user, alias, client, node, data; empty when all are
  8 alias     hash of an app's own key, or empty
  9 not_after deadline of a reservation, ms; 0: none
  10 grace    ms, for a due session under the same alias
  11 hold     ms, for the same: how long idle ends stop when the server's run id has changed
RETURNS {status, now, record}; 1 ok, 0 the id is taken with another secret, 5 the reservation has lapsed
]]
local session = KEYS[1]
local mac, idle, max, width, flags = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local fps, tail, alias = ARGV[6], ARGV[7], ARGV[8]
local not_after, grace, hold = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
--@include clock
--@include layout
--@include books
--@include wheel
--@include run
--@include hold
--@include ending
local prefix = string.sub(session, 1, -23)
local sid = string.sub(session, -20)

local named = alias ~= '' and redis.call('GET', prefix .. 'a:' .. alias)
if named then
  local raw = redis.call('GET', prefix .. 's:' .. named)
  if raw then
    local h = header(raw)
    local idle_end, old_end = dies(h)
    redis.call('UNLINK', prefix .. 'none') -- touching must work on a full server
    -- re-checked against a restarted server: what a lost write forgot must not end a session still in use
    if now < old_end and (now < idle_end or server_run(prefix, now, hold) > 0) then
      local last = math.max(h.last, now)
      local hot = struct.pack('>I6I4', last, math.min(h.requests + 1, 4294967295))
      redis.call('SETRANGE', prefix .. 's:' .. named, 56, hot)
      return {1, now, string.sub(raw, 1, 56) .. hot .. string.sub(raw, 67), named}
    end
    finish(prefix, named, raw, h, now, now >= old_end and 'expired' or 'idle', grace)
    close_books(prefix)
    book = {}
  end
end
local there = redis.call('GET', session)
if there then return {string.sub(there, 3, 18) == mac and 1 or 0, now, there, sid} end
-- ids are never used twice
if redis.call('EXISTS', prefix .. 't:' .. sid) == 1 then return {0, now} end
local taken = redis.call('GET', prefix .. 'x:' .. sid)
if taken and now < tonumber(taken) then return {0, now} end
if not_after > 0 and now > not_after then return {5, now} end

local due = now + idle
if max > 0 and now + max < due then due = now + max end
local slot = math.ceil(due / width) * width
local raw = struct.pack('>BBc16I6I5I5I6I6I2I2I6I6I4', 1, flags, mac, now, idle, max, slot, 0, 0, 0, 0, now, 1) .. fps .. tail
event(prefix, 'e', 'session_created', 's', sid) -- first: a full server refuses here, before anything is made
redis.call('SET', session, raw)
if redis.call('HEXISTS', prefix .. 'h', 'run') == 0 then
  -- the partition's first session: from here on a restarted server is known by its run id, whoever notices first
  redis.call('HSET', prefix .. 'h', 'run', run_id())
end
if alias ~= '' then redis.call('SET', prefix .. 'a:' .. alias, sid) end
file(prefix, sid, due, width)
redis.call('HINCRBY', prefix .. 'c', 'created', 1)
return {1, now, raw, sid}
