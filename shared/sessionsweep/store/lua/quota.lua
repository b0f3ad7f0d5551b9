--[[ Reserves one resource's share of its user's quota, or changes its size.
KEYS
  1 quota          hash: `<sid> <rid>` → bytes and deadline; `#` → the sum of all bytes
ARGV
  1 member         `<sid> <rid>`
  2 size           bytes
  3 max_resources  0: no limit
  4 max_bytes      0: no limit
  5 duration       ms by which the resource must be registered
  6 present        1: only where the share is there
RETURNS {ok, limit:resources, limit:bytes or gone, deadline, shares whose deadline has passed (told at a limit)}
]]
local quota = KEYS[1]
local member, size, max_resources, max_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local duration, present = tonumber(ARGV[5]), ARGV[6]
--@include clock
--@include shares
local was, sum = unpack(redis.call('HMGET', quota, member, '#'))
if not was and present == '1' then return {'gone', 0, {}} end
local held = redis.call('HLEN', quota) - redis.call('HEXISTS', quota, '#')
local bytes, deadline = 0, now + duration
if was then bytes, deadline = share(was) end
sum = tonumber(sum or 0) + size - bytes
local limit
if not was and max_resources > 0 and held + 1 > max_resources then limit = 'limit:resources'
elseif max_bytes > 0 and size > bytes and sum > max_bytes then limit = 'limit:bytes' end
if limit then
  -- not all of thousands: no script may take long, and the turn of each comes
  local suspects, all = {}, redis.call('HRANDFIELD', quota, 500, 'WITHVALUES')
  for i = 1, #all, 2 do
    local _, ends = share(all[i + 1])
    if all[i] ~= '#' and ends <= now then suspects[#suspects + 1] = all[i] end
  end
  return {limit, 0, suspects}
end
-- what is committed is kept on a full server
if present == '1' then redis.call('UNLINK', quota .. ':none') end
redis.call('HSET', quota, member, string.format('%.0f %.0f', size, deadline), '#', sum)
return {'ok', deadline, {}}
