--[[ Which of these resources have a record, and what is known of their session. Writes nothing.
KEYS
  1 session    string
  2 resources  hash
  3 tombstone  hash
ARGV
  1 rids       resource ids, separated by spaces
RETURNS {2 live, 1 ended or 0 unknown, {1 or 0 for each}}
]]
local session, resources, tombstone = KEYS[1], KEYS[2], KEYS[3]
local rids = ARGV[1]
local present, ids = {}, {}
for rid in string.gmatch(rids, '%S+') do ids[#ids + 1] = rid end
for i, value in ipairs(#ids > 0 and redis.call('HMGET', resources, unpack(ids)) or {}) do present[i] = value and 1 or 0 end
local state = 0
if redis.call('EXISTS', session) == 1 then state = 2
elseif redis.call('EXISTS', tombstone) == 1 then state = 1 end
return {state, present}
