--[[ Removes delivered entries, each once, from the head on.
KEYS
  1 outbox   list
ARGV
  1 entries  packed: (4+n entry)*
RETURNS how many were removed
]]
local outbox = KEYS[1]
local entries = ARGV[1]
local removed, pos = 0, 1
while pos <= #entries do
  local entry
  entry, pos = struct.unpack('>I4c0', entries, pos)
  removed = removed + redis.call('LREM', outbox, 1, entry)
end
return removed
