--[[ Tells an event of the whole deployment.
KEYS
  1 events  stream
ARGV
  1 only    of those with the same text only the first in a second is told; empty: each
  2 row     packed: (2+n field or value)*, the event's name first
RETURNS 1: it was told, or 0
]]
local events = KEYS[1]
local only, row = ARGV[1], ARGV[2]
--@include clock
--@include books
--@include once
--@include packed
local prefix = string.sub(events, 1, -3)
redis.call('UNLINK', prefix .. 'none') -- what is told of a full server must be told there, too
if only ~= '' and not once(prefix, only) then return 0 end
event(prefix, unpack(unpacked(row)))
return 1
