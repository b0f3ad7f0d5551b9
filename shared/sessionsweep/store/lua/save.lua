--[[ Sets and removes top-level keys of a session's data; may renew it. Values are opaque; same key: the last one wins.
KEYS
  1 session  string
ARGV
  1 changes  packed: (2+n key, 1 set or 0 remove, 4+n value)*
  2 mac      16 bytes: under another secret nothing is written; empty: a trusted caller
  3 renew    1: counts as activity, and sets the timeouts given
  4 idle     ms, or -1: as it is
  5 max      ms, 0: none, or -1: as it is
  6 width    of a wheel slot, ms
RETURNS {status, now, record}; 1 ok, 0 not live or another secret
]]
local session = KEYS[1]
local changes, mac, renew = ARGV[1], ARGV[2], ARGV[3] == '1'
local idle, max, width = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
--@include clock
--@include layout
--@include run
--@include over
--@include wheel
--@include renewing
local prefix = string.sub(session, 1, -23)
local raw = redis.call('GET', session)
if not raw then return {0, now} end
if over(prefix, header(raw), now) then return {0, now} end
if mac ~= '' and mac ~= string.sub(raw, 3, 18) then return {0, now} end

if changes ~= '' then
  local tail = string.sub(raw, 73)
  if tail == '' then tail = '\0\0\0\0\0\0\0' end
  local _, at = struct.unpack('>I2c0', tail, 1)
  _, at = struct.unpack('>Bc0', tail, at)
  _, at = struct.unpack('>Bc0', tail, at)
  _, at = struct.unpack('>I2c0', tail, at)
  _, at = struct.unpack('>Bc0', tail, at)

  local changed, order = {}, {}
  local pos = 1
  while pos <= #changes do
    local key, set, value
    key, set, value, pos = struct.unpack('>I2c0BI4c0', changes, pos)
    if changed[key] == nil then order[#order + 1] = key end
    changed[key] = set == 1 and value or false
  end
  local kept = {}
  pos = at
  while pos <= #tail do
    local key, value, from
    from = pos
    key, value, pos = struct.unpack('>I2c0I4c0', tail, pos)
    if changed[key] == nil then kept[#kept + 1] = string.sub(tail, from, pos - 1) end
  end
  for _, key in ipairs(order) do
    local value = changed[key]
    if value then kept[#kept + 1] = struct.pack('>I2c0I4c0', #key, key, #value, value) end
  end
  raw = string.sub(raw, 1, 72) .. string.sub(tail, 1, at - 1) .. table.concat(kept)
end
if renew then
  -- a slot being moved refuses here; a full server renews what brings no data, and refuses the rest whole
  redis.call(changes == '' and 'UNLINK' or 'EXISTS', prefix .. 'none')
  raw = renewed(session, raw, now, idle, max, width)
end
redis.call('SET', session, raw)
return {1, now, raw}
