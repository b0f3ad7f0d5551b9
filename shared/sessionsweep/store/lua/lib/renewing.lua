-- a record as active now, with the timeouts given (ms, -1: as it is); a shorter one files a second wheel entry
local function renewed(session, raw, now, idle, max, width)
  local h = header(raw)
  h.last = math.max(h.last, now)
  if idle >= 0 then h.idle = idle end
  if max >= 0 then h.max = max end
  local idle_end, old_end = dies(h)
  local due = math.min(idle_end, old_end)
  if math.ceil(due / width) * width < h.filed then
    h.filed = file(string.sub(session, 1, -23), string.sub(session, -20), due, width)
  end
  return string.sub(raw, 1, 24) .. struct.pack('>I5I5I6', h.idle, h.max, h.filed) .. string.sub(raw, 41, 56)
    .. struct.pack('>I6', h.last) .. string.sub(raw, 63)
end
