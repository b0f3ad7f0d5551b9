-- What a changed run id of the server means here. A server that restarted or failed over may have forgotten touches, so
-- idle ends stop for `hold` ms before anything is ended, and since when this run is known is kept. Answers until when
-- idle ends are stopped (0: they aren't), and since when (0: no other run was ever seen). Only asked when something is due.
-- Needs run.
local function server_run(prefix, now, hold)
  local seen, until_, since = unpack(redis.call('HMGET', prefix .. 'h', 'run', 'until', 'since'))
  -- further ahead than any hold lasts: not one of ours, and from now on it runs out
  local beyond = (tonumber(until_) or 0) > now + math.max(hold, 86400000)
  if beyond then until_ = now + hold end
  local run = run_id()
  until_, since = tonumber(until_) or 0, tonumber(since) or 0
  if seen ~= run or beyond then
    if seen and seen ~= run then since, until_ = now, math.max(until_, now + hold) end
    redis.call('HSET', prefix .. 'h', 'run', run, 'until', string.format('%.0f', until_), 'since', string.format('%.0f', since))
  end
  return until_ > now and until_ or 0, since
end
