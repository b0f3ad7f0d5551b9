-- Until when idle ends are stopped here. A server that restarted or failed over may have forgotten touches, so a
-- changed run id stops them for `hold` ms, before anything is ended. Only ever asked when something is due.
local function idle_held(prefix, now, hold)
  local seen, until_ = unpack(redis.call('HMGET', prefix .. 'h', 'run', 'until'))
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
  until_ = tonumber(until_) or 0
  if seen ~= run then
    if seen and now + hold > until_ then until_ = now + hold end
    redis.call('HSET', prefix .. 'h', 'run', run, 'until', string.format('%.0f', until_))
  end
  return until_ > now and until_ or 0
end
