--[[ Raises a volume's time mark to now, unless it lies too far behind what the volume has seen: in an old copy it stays.
KEYS
  1 marks   hash
  2 meta    hash
ARGV
  1 volume  id
  2 seen    ms: the mark on the volume itself
  3 most    ms that the store's may lie behind that
  4 run     the server's run id when the volume's was read; empty: any
RETURNS now; 0: too far behind, or another run of the server
]]
local marks, meta = KEYS[1], KEYS[2]
local volume, seen, most, run = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
--@include clock
--@include run
local text = redis.call('HGET', marks, volume) or redis.call('HGET', meta, 'high_water')
local mark = text and #text < 16 and string.match(text, '^%d+$') and tonumber(text) or 0
if seen - mark > most then return 0 end
if run ~= '' and run_id() ~= run then return 0 end
redis.call('UNLINK', marks .. ':none') -- passes end with marks: they must work on a full server
if now > mark then redis.call('HSET', marks, volume, string.format('%.0f', now)) end
return now
