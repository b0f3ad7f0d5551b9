--[[ Reads a session, or the tombstone it left. Writes nothing.
KEYS
  1 session    string
  2 tombstone  hash
  3 resources  hash
RETURNS {now, record or false, tombstone's fields and values, records left, held}; held 1: it only seems idle, idle ends are held
]]
local session, tombstone, resources = KEYS[1], KEYS[2], KEYS[3]
--@include clock
--@include layout
--@include run
--@include over
local raw = redis.call('GET', session)
if raw then
  local held = 0
  if #raw >= 72 and string.byte(raw, 1) == 1 then -- what can't be read is the reader's to refuse
    local idle_end, old_end = dies(header(raw))
    if now >= idle_end and now < old_end and idle_held(string.sub(session, 1, -23), now) then held = 1 end
  end
  return {now, raw, {}, 0, held}
end
local left = redis.call('HLEN', resources) - redis.call('HEXISTS', resources, '@') - redis.call('HEXISTS', resources, '@k')
return {now, false, redis.call('HGETALL', tombstone), left, 0}
