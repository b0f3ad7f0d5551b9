--[[ Leases due entries of one location. They stay queued at now + duration: a worker that dies costs one lease.
KEYS
  1 queue     sorted set
  2 batch     list with TTL: this lease's ids
ARGV
  1 duration  ms
  2 limit     resources in all
  3 bound     ms: due by then; 0: now
  4 dead      1: the location itself is gone: live resources too, whatever their time
RETURNS {entries, next due, now}; entries {sid, locations, rid, record, rid, record, ...}
]]
local queue, batch = KEYS[1], KEYS[2]
local duration, limit, bound, dead = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
--@include clock
--@include layout
--@include books
--@include damage
--@include queueing
local prefix, location = string.match(queue, '^(.-:{..}:)q:(.*)$')
local horizon = now
if bound > 0 and bound < now then horizon = bound end
if dead == '1' then horizon = FAR end
redis.call('UNLINK', prefix .. 'none') -- reclaiming must work on a full server

local again = redis.call('LRANGE', batch, 0, -1)
local repeated = #again > 0
local entries, taken, looked = {}, 0, 0

local function take(sid)
  local rkey = prefix .. 'r:' .. sid
  local all = redis.call('HGETALL', rkey)
  local ended = ended_due(prefix, sid)
  local at, entry = '', {sid, ''}
  for i = 1, #all, 2 do
    if all[i] == '@' then at = all[i + 1] end
  end
  local number = place_number(lines(at), location)
  local rest = false
  for i = 1, #all, 2 do
    local value = all[i + 1]
    if string.byte(value, 28) == number and is_rid(all[i]) and is_sound(value) then
      local state, due = string.byte(value), false
      if state == DEAD then due = false
      elseif dead == '1' then due = true
      elseif ended or state == OWED then due = due_of(value, ended) <= now end
      if due and taken < limit then
        entry[#entry + 1] = all[i]
        entry[#entry + 1] = value
        taken = taken + 1
      elseif due then
        rest = true
      end
    end
  end
  if #entry > 2 then
    entry[2] = at
    entries[#entries + 1] = entry
    -- the TTL is the lease; it is renewed with each id so that the batch lives as long as its last one
    if not repeated then
      redis.call('ZADD', queue, string.format('%.0f', now + duration), sid)
      redis.call('RPUSH', batch, sid)
      redis.call('PEXPIRE', batch, duration)
    end
  elseif not rest then
    requeue(prefix, location, sid, all, number, ended)
    -- nothing due now although the queue says so: never again in this pass
    local score = tonumber(redis.call('ZSCORE', queue, sid) or FAR)
    if score <= horizon and dead ~= '1' then redis.call('ZADD', queue, string.format('%.0f', now + 1000), sid) end
    if dead == '1' then redis.call('ZREM', queue, sid) end
  end
end

while taken < limit and looked < 100 do
  local ids = repeated and again or redis.call('ZRANGEBYSCORE', queue, '-inf', string.format('%.0f', horizon), 'LIMIT', 0, 25)
  if #ids == 0 then break end
  for _, sid in ipairs(ids) do
    looked = looked + 1
    if taken >= limit then break end
    if not is_id(sid) then
      redis.call('ZREM', queue, sid) -- somebody else's: no session, no files
    elseif not attempt(take, sid) then
      redis.call('ZADD', queue, string.format('%.0f', now + 60000), sid) -- kept, and out of the others' way
    end
  end
  if repeated then break end
  if dead == '1' then break end
end
close_books(prefix)
local first = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
local next_due = tonumber(first[2] or '0')
-- each web process that ever was would be looked at for ever; one that was only paused is listed again by its next stream
if dead == '1' and #first == 0 and string.sub(location, 1, 2) == 'p.' then redis.call('HDEL', prefix .. 'l', location) end
return {entries, next_due < FAR and string.format('%.0f', next_due) or '0', now}
