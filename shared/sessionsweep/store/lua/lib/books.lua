-- counters of this script, added in one go, so that a batch costs one write per counter
local book = {}
local function count(field, n)
  if n ~= 0 then book[field] = (book[field] or 0) + n end
end
local function close_books(prefix)
  for field, n in pairs(book) do redis.call('HINCRBY', prefix .. 'c', field, n) end
end
-- Tells what is about to be done, before the first write of it: a stream that can't be written stops it whole, and a full
-- server refuses here what it must refuse.
local function event(prefix, ...)
  redis.call('XADD', prefix .. 'ev', 'MAXLEN', '~', '10000', '*', ...)
end
-- Tells what is so whether or not it can be told.
local function remark(prefix, ...)
  redis.pcall('XADD', prefix .. 'ev', 'MAXLEN', '~', '10000', '*', ...)
end
