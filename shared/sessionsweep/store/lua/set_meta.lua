--[[ Sets fields of the deployment's meta.
KEYS
  1 meta    hash
ARGV
  1 mode    `set`; `new`: only absent ones; `raise`: numbers that never go back
  2 fields  name, newline, value, newline …
RETURNS how many fields changed
]]
local meta = KEYS[1]
local mode, fields = ARGV[1], ARGV[2]
local changed = 0
local function number(text) -- what is no possible number stands for none
  return text and #text < 16 and string.match(text, '^%d+$') and tonumber(text) or -1
end
redis.call('UNLINK', meta .. ':none') -- passes end with marks: they must work on a full server
for name, value in string.gmatch(fields, '([^\n]+)\n([^\n]*)\n') do
  if mode == 'new' then
    changed = changed + redis.call('HSETNX', meta, name, value)
  elseif mode == 'set' or number(value) > number(redis.call('HGET', meta, name)) then
    redis.call('HSET', meta, name, value)
    changed = changed + 1
  end
end
return changed
