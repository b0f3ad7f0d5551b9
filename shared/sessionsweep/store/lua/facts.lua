--[[ What the engine must know of the server. Writes nothing.
KEYS
  1 meta  hash; names the slot
RETURNS {run id, now, version, maxmemory policy, used memory, max memory}
]]
local meta = KEYS[1]
--@include clock
local function info(section, field)
  return string.match(redis.call('INFO', section), field .. ':([^\r\n]*)') or ''
end
local version = info('server', 'valkey_version')
if version == '' then version = info('server', 'redis_version') end
return {info('server', 'run_id'), now, version, info('memory', 'maxmemory_policy'), info('memory', 'used_memory'),
  info('memory', 'maxmemory'), meta}
