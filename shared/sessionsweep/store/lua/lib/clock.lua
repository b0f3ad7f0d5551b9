-- the server's time in ms: the one clock. Tests load another text in this place.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
