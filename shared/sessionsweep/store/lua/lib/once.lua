-- Whether a second has passed since this was asked last, and notes that it was asked: what strangers can make happen at
-- will is told at most so often. A note that can't be written stops nothing.
local function once(prefix, what)
  local key = prefix .. 'once:' .. what
  local last = redis.pcall('GET', key)
  if type(last) == 'string' and now - (tonumber(last) or 0) < 1000 then return false end
  redis.pcall('SET', key, string.format('%.0f', now), 'PX', 60000)
  return true
end
