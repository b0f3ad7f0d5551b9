--[[ Places of a book after a cursor, oldest first. Writes nothing.
KEYS
  1 book   sorted set: deadline of a reservation, or 1e15 + when bound
ARGV
  1 since  begin at this score
  2 after  and, among those that have it, after this session
  3 limit  places
RETURNS {session, score, ...}
]]
local book = KEYS[1]
local since, after, limit = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
-- by score and id, not by rank: a place that is given back meanwhile moves all behind it up by one
local from = redis.call('ZCOUNT', book, '-inf', string.format('(%.0f', since))
local out = {}
repeat
  local page = redis.call('ZRANGE', book, from, from + limit - 1, 'WITHSCORES')
  for i = 1, #page, 2 do
    if #out < 2 * limit and (tonumber(page[i + 1]) > since or page[i] > after) then
      out[#out + 1] = page[i]
      out[#out + 1] = page[i + 1]
    end
  end
  from = from + limit
until #out == 2 * limit or #page < 2 * limit
return out
