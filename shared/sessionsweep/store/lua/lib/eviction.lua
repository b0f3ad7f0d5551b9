-- Chooses whom a limit pushes out: the least recently used live files and objects; never an intent, a pinned one or
-- a stream, nor `spare`. Answers the victims, or which limit can't be kept. Sorted only here, at the limit.
local function choose_victims(rkey, h, now, too_many, too_much, spare)
  local victims = {}
  if too_many <= 0 and too_much <= 0 then return victims end
  local all, candidates = redis.call('HGETALL', rkey), {}
  for i = 1, #all, 2 do
    if is_record(all[i]) and all[i] ~= spare then
      local v = res(all[i + 1])
      if v.state == 'l' and v.kind ~= 's' and v.till <= now then
        candidates[#candidates + 1] = {rid = all[i], v = v}
      end
    end
  end
  table.sort(candidates, function(a, b)
    if a.v.used ~= b.v.used then return a.v.used < b.v.used end
    return a.rid < b.rid
  end)
  for _, c in ipairs(candidates) do
    if too_many <= 0 and too_much <= 0 then break end
    if too_many > 0 or c.v.size > 0 then -- an empty file frees no bytes
      victims[#victims + 1] = c
      too_many = too_many - 1
      too_much = too_much - c.v.size
    end
  end
  if too_many > 0 then return {}, 'limit:resources' end
  if too_much > 0 then return {}, 'limit:bytes' end
  return victims
end

local function evict(prefix, sid, raw, h, victims, places, now)
  for _, victim in ipairs(victims) do
    owe(prefix, sid, raw, h, victim.rid, victim.v, places[victim.v.loc], now)
    event(prefix, 'e', 'resource_evicted', 's', sid, 'x', victim.rid)
  end
  count('evicted', #victims)
end
