--[[ A slice of a partition's tombstones and receipts. Writes nothing.
KEYS
  1 prefix  of the partition's keys
ARGV
  1 cursor  0 begins
  2 count   keys to look at
RETURNS {next cursor, {session, records left, {field, value, ...}}, ...}
]]
local prefix = KEYS[1]
local cursor, count = ARGV[1], ARGV[2]
local pattern = string.gsub(prefix, '[%[%]%*%?\\]', '\\%0') .. 't:*'
local slice = redis.call('SCAN', cursor, 'MATCH', pattern, 'COUNT', count)
local out = {slice[1]}
for _, key in ipairs(slice[2]) do
  local fields = redis.pcall('HGETALL', key)
  if not fields.err and #fields > 0 then -- none of ours, or over since
    local sid = string.sub(key, #prefix + 3)
    local rkey = prefix .. 'r:' .. sid
    local left = redis.pcall('HLEN', rkey)
    if type(left) == 'number' then
      out[#out + 1] = {sid, left - redis.call('HEXISTS', rkey, '@') - redis.call('HEXISTS', rkey, '@k'), fields}
    end
  end
end
return out
