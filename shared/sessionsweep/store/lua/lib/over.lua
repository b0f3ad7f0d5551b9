-- Whether a session is over. Needs layout, run.

-- Whether idle ends are held: a server that restarted or failed over may have forgotten touches. From the moment it is
-- another one, though the hold begins only when somebody notes that (lib/hold.lua). Writes nothing, and is asked only of
-- who seems idle.
local function idle_held(prefix, now)
  local seen, until_ = unpack(redis.call('HMGET', prefix .. 'h', 'run', 'until'))
  if (tonumber(until_) or 0) > now then return true end
  return seen and seen ~= run_id()
end

local function over(prefix, h, now)
  local idle_end, old_end = dies(h)
  return now >= old_end or (now >= idle_end and not idle_held(prefix, now))
end
