--[[ Reserves one resource's share of its user's quota, or changes its size.
KEYS
  1 quota          hash: `<sid> <rid>` → bytes; `#` → their sum
ARGV
  1 member         `<sid> <rid>`
  2 size           bytes
  3 max_resources  0: no limit
  4 max_bytes      0: no limit
RETURNS ok, limit:resources or limit:bytes
]]
local quota = KEYS[1]
local member, size, max_resources, max_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local was, sum = unpack(redis.call('HMGET', quota, member, '#'))
sum = tonumber(sum or 0)
local held = redis.call('HLEN', quota) - redis.call('HEXISTS', quota, '#')
if not was and max_resources > 0 and held + 1 > max_resources then return 'limit:resources' end
local grown = size - tonumber(was or 0)
if max_bytes > 0 and grown > 0 and sum + grown > max_bytes then return 'limit:bytes' end
redis.call('HSET', quota, member, size, '#', sum + grown)
return 'ok'
