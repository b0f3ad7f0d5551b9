--[[ Events of a stream behind a place, oldest first. Writes nothing.
KEYS
  1 events  stream
ARGV
  1 after   the place, `<ms>-<seq>`; `-`: from the beginning; `$`: none, only where the stream ends
  2 count   how many
RETURNS {rows, the place to go on from, lost}; lost 1: rows behind the place may have been dropped
]]
local events = KEYS[1]
local after, count = ARGV[1], tonumber(ARGV[2])
local function last()
  local newest = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1]
  return newest and newest[1] or '0-0'
end
if after == '$' then return {{}, last(), 0} end
if after == '-' or after == '0-0' then
  local rows = redis.call('XRANGE', events, '-', '+', 'COUNT', count)
  return {rows, #rows > 0 and rows[#rows][1] or '0-0', 0}
end
-- the row at the place is read with the others: where it is gone, rows behind it may be gone as well
local rows = redis.call('XRANGE', events, after, '+', 'COUNT', count + 1)
-- nothing there and nothing behind it: the stream was emptied or set back, and what comes next stands before the place
if #rows == 0 then return {rows, last(), 1} end
local lost = rows[1][1] ~= after
table.remove(rows, lost and count + 1 or 1)
return {rows, #rows > 0 and rows[#rows][1] or after, lost and 1 or 0}
