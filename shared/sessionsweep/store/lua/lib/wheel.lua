-- files a session at the slot whose end is at or after `due`
local function file(prefix, sid, due, width)
  local slot = math.ceil(due / width) * width
  local name = string.format('%.0f', slot)
  redis.call('RPUSH', prefix .. 'w:' .. name, sid)
  redis.call('ZADD', prefix .. 'w', name, name)
  return slot
end
