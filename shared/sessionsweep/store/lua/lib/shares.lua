-- a share of a user's quota: its bytes, and by when its resource had to be registered; 0.1 wrote the bytes alone
local function share(value)
  local bytes, deadline = string.match(value, '^(%d+) ?(%d*)')
  return tonumber(bytes or 0), tonumber(deadline) or 0
end
