--[[ Sets and removes top-level keys of a session's data; values are opaque. Same key: the last one wins.
KEYS
  1 session  string
ARGV
  1 changes  packed: (2+n key, 1 set or 0 remove, 4+n value)*
RETURNS {status, now, record}; 1 ok, 0 not live
]]
local session = KEYS[1]
local changes = ARGV[1]
--@include clock
--@include layout
local raw = redis.call('GET', session)
if not raw then return {0, now} end
local idle_end, old_end = dies(header(raw))
if now >= idle_end or now >= old_end then return {0, now} end
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
redis.call('SET', session, raw)
return {1, now, raw}
