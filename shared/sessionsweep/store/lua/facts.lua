--[[ What the engine must know of the server, and whose data it holds, in one look. Writes nothing.
KEYS
  1 meta  hash
RETURNS {run id, now, version, maxmemory policy, deployment id (empty: none)}
]]
local meta = KEYS[1]
--@include clock
--@include run
local server, memory = redis.call('INFO', 'server'), redis.call('INFO', 'memory')
local function said(text, field)
  return string.match(text, '\n' .. field .. ':([^\r\n]*)') or ''
end
local version = said(server, 'valkey_version')
if version == '' then version = said(server, 'redis_version') end
return {run_id(), now, version, said(memory, 'maxmemory_policy'), redis.call('HGET', meta, 'deployment') or ''}
