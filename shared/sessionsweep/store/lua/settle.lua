--[[ Acknowledges attempts by resource id. Each counts only if its record was there; late ones are welcome.
KEYS
  1 resources  hash
ARGV
  1 location   where they were reclaimed
  2 tries      failures after which a resource is a dead letter
  3 retention  ms that a receipt stays
  4 own        1: the caller owns live resources too
  5 attempts   packed: (1+n rid, outcome letter, 6 delay ms, 1+n error)*
RETURNS {counted, dead ids, still owed here, bytes that left}
]]
local resources = KEYS[1]
local location, tries, retention, own = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local attempts = ARGV[5]
--@include clock
--@include layout
--@include books
--@include ending
--@include owing
--@include queueing
--@include receipt
local prefix = string.sub(resources, 1, -23)
local sid = string.sub(resources, -20)
local raw = redis.call('GET', prefix .. 's:' .. sid)
local h = raw and header(raw)
local NAMES = {d = 'deleted', g = 'gone', p = 'promoted', f = 'forgotten'}
redis.call('UNLINK', prefix .. 'none') -- reclaiming must work on a full server

local counted, dead, freed, changed = 0, {}, 0, false
local told, rids, pos = {}, {}, 1
while pos <= #attempts do
  local rid, outcome, delay, message
  rid, outcome, delay, message, pos = struct.unpack('>Bc0c1I6Bc0', attempts, pos)
  told[#told + 1] = {rid, outcome, delay, message}
  rids[#rids + 1] = rid
end
-- read and written at once: a call for each record would cost more than all the rest
local values = #rids > 0 and redis.call('HMGET', resources, unpack(rids)) or {}
local drop, put, uncommitted, buried, seen = {}, {}, {}, {}, {}
local became, failed, given_up = {}, nil, {} -- what became of them here, the first that failed, the dead ones' errors
local function add(what, n) became[what] = (became[what] or 0) + n end
for n, one in ipairs(told) do
  local rid, outcome, delay, message = unpack(one)
  local value = not seen[rid] and values[n] -- told twice in one call, it counts once
  seen[rid] = true
  if value and is_sound(value) then
    local v = res(value)
    local name = NAMES[outcome]
    local owed = v.state == 'o' or (not raw and v.state ~= 'd')
    if name and (owed or v.state == 'd' or own == '1') then
      drop[#drop + 1] = rid
      if v.state == 'i' then uncommitted[#uncommitted + 1] = sid .. ' ' .. rid end
      if v.state == 'd' then
        buried[#buried + 1] = sid .. ' ' .. rid
        count('dead', -1)
        add('dead', -1)
      elseif owed then
        count('owed', -1)
        count('b_owed', -v.size)
      else
        uncount(h, v)
        give_back_quota(prefix, sid, raw, h, rid)
        changed = true
        count('active', -1)
        count('b_active', -v.size)
      end
      count(name, 1)
      add(name, 1)
      if outcome == 'd' then
        count('b_deleted', v.size)
        add('bytes', v.size)
      end
      if raw and (outcome == 'p' or outcome == 'f') then event(prefix, 'e', 'resource_' .. name, 's', sid, 'x', rid) end
      counted = counted + 1
      freed = freed + v.size
    elseif name or not owed or (v.state == 'o' and v.till > now) then
      -- not ours to count, or counted already: the same attempt told twice uses one try
    else
      if v.state == 'i' then uncommitted[#uncommitted + 1] = sid .. ' ' .. rid end
      v.state, v.till = 'o', now + delay
      if outcome == 'x' then
        v.tries, v.error = math.min(v.tries + 1, 255), string.sub(message, 1, 200)
        add('failed', 1)
        became.error = v.error
        failed = failed or {rid, v.error, v.tries}
        if v.tries >= tries then
          v.state, v.till = 'd', now
          add('dead', 1)
          count('owed', -1)
          count('b_owed', -v.size)
          count('dead', 1)
          dead[#dead + 1] = rid
          given_up[#given_up + 1] = v.error
        end
        counted = counted + 1
      end
      put[#put + 1] = rid
      put[#put + 1] = pack(v)
    end
  end
end
-- before anything is written: a stream that can't be written stops all of it
if failed then
  event(prefix, 'e', 'resource_failed', 's', sid, 'x', failed[1], 'location', location, 'error', failed[2],
    'tries', failed[3], 'count', became.failed)
end
for n, rid in ipairs(dead) do
  event(prefix, 'e', 'resource_dead_lettered', 's', sid, 'x', rid, 'location', location, 'error', given_up[n])
end
for _, rid in ipairs(dead) do redis.call('ZADD', prefix .. 'dl', now, sid .. ' ' .. rid) end
if #drop > 0 and (not raw or became.deleted or became.gone) then
  event(prefix, 'e', 'resources_reclaimed', 's', sid, 'location', location, 'deleted', became.deleted or 0,
    'gone', became.gone or 0, 'promoted', not raw and became.promoted or 0,
    'forgotten', not raw and became.forgotten or 0,
    'bytes', string.format('%.0f', became.bytes or 0))
end
if #drop > 0 then redis.call('HDEL', resources, unpack(drop)) end
if #put > 0 then redis.call('HSET', resources, unpack(put)) end
if #uncommitted > 0 then redis.call('ZREM', prefix .. 'i', unpack(uncommitted)) end
if #buried > 0 then redis.call('ZREM', prefix .. 'dl', unpack(buried)) end
if changed then save_counts(prefix, sid, h) end

local left = 0
if raw or not close_debt(prefix, sid, retention) then
  local all = redis.call('HGETALL', resources)
  local at
  for i = 1, #all, 2 do
    if all[i] == '@' then at = all[i + 1] end
  end
  left = requeue(prefix, location, sid, all, place_number(lines(at), location), ended_due(prefix, sid))
else
  redis.call('ZREM', prefix .. 'q:' .. location, sid)
  if #drop > 0 then event(prefix, 'e', 'session_reclaimed', 's', sid) end
end
if not raw and next(became) then receipt(prefix, sid, location, became) end
close_books(prefix)
return {counted, dead, left, freed}
