--[[ Sets fields of the deployment's meta.
KEYS
  1 meta    hash
ARGV
  1 mode    `set`; `new`: only absent ones; `raise`: numbers that never go back, unless they lie ahead of the clock
  2 fields  name, newline, value, newline …
RETURNS how many fields changed
]]
local meta = KEYS[1]
local mode, fields = ARGV[1], ARGV[2]
local changed = 0
--@include clock
local function number(text) -- what is no possible number stands for none
  return text and #text < 16 and string.match(text, '^%d+$') and tonumber(text) or -1
end
-- A mark of a time to come is none that a pass has set, and would hide for ever that none runs. But high_water is held
-- against the volumes' marks: where the clock was set back, those agree, and only an operator's word lowers them.
local function rises(name, value)
  local was = number(redis.call('HGET', meta, name))
  return value > was or (name ~= 'high_water' and was > now + 60000 and value ~= was)
end
redis.call('UNLINK', meta .. ':none') -- passes end with marks: they must work on a full server
for name, value in string.gmatch(fields, '([^\n]+)\n([^\n]*)\n') do
  if mode == 'new' then
    changed = changed + redis.call('HSETNX', meta, name, value)
  elseif mode == 'set' or rises(name, number(value)) then
    redis.call('HSET', meta, name, value)
    changed = changed + 1
  end
end
return changed
