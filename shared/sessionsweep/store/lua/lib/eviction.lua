-- Whom a limit pushes out: the least recently used live files and objects; never an intent, a pinned one or a stream.
-- Only at the limit is anything looked at. Needs books, ending, owing.

-- Orders `found` (places in `all`) by when each was used, then by id. Numbers sort six times faster than a comparison in
-- Lua could: the time since `oldest` and the place in `found` share one.
local function by_use(all, found, used, oldest)
  local ranks, order = {}, {}
  for n = 1, #found do ranks[n] = (used[n] - oldest) * 8192 + n end
  table.sort(ranks)
  local n = 1
  while n <= #ranks do
    local moment, tied = math.floor(ranks[n] / 8192), {}
    while ranks[n] and math.floor(ranks[n] / 8192) == moment do
      tied[#tied + 1] = found[ranks[n] % 8192]
      n = n + 1
    end
    if #tied > 1 then table.sort(tied, function(a, b) return all[a] < all[b] end) end
    for _, i in ipairs(tied) do order[#order + 1] = i end
  end
  return order
end

local AT_ONCE = 250 -- so many a call: more would keep the server from its other clients for too long

-- Answers {{rid, record}, ...}, or which limit can't be kept, and whether they are too few and the caller must come again.
-- `spare`: who is never chosen.
local function choose_victims(rkey, now, too_many, too_much, spare)
  local victims = {}
  if too_many <= 0 and too_much <= 0 then return victims end
  local all, found, used = redis.call('HGETALL', rkey), {}, {}
  local first, oldest -- the place of the least recently used, and when that was
  for i = 1, #all, 2 do
    local rid, value = all[i], all[i + 1]
    local state, kind = string.byte(value, 1, 2)
    if state == LIVE and kind ~= STREAM and rid ~= spare and is_record(rid) and is_sound(value)
      and till_of(value) <= now then
      local n = #found + 1
      found[n], used[n] = i, struct.unpack('>I6', value, 15)
      if not oldest or used[n] < oldest or (used[n] == oldest and rid < all[first]) then first, oldest = i, used[n] end
    end
  end
  -- mostly one makes room: then the others needn't be put in order
  local one = first and too_many <= 1 and too_much <= size_of(all[first + 1]) and (too_many > 0 or size_of(all[first + 1]) > 0)
  for _, i in ipairs(one and {first} or by_use(all, found, used, oldest)) do
    if too_many <= 0 and too_much <= 0 then break end
    local size = size_of(all[i + 1])
    if too_many > 0 or size > 0 then -- an empty file frees no bytes
      victims[#victims + 1] = {all[i], all[i + 1]}
      too_many = too_many - 1
      too_much = too_much - size
    end
  end
  if too_many > 0 then return {}, 'limit:resources' end
  if too_much > 0 then return {}, 'limit:bytes' end
  local again = #victims > AT_ONCE
  for n = #victims, AT_ONCE + 1, -1 do victims[n] = nil end
  return victims, nil, again
end

-- Makes them owed now, as `owe` does one; answers their ids. Writes once a place and once for all records, not once each.
local function evict(prefix, sid, raw, h, victims, places, now)
  if #victims == 0 then return {} end
  event(prefix, 'e', 'resources_evicted', 's', sid, 'count', #victims)
  local ids, fields, touched, freed = {}, {}, {}, 0
  local owed = struct.pack('>I6', now)
  for n, victim in ipairs(victims) do
    local rid, value = victim[1], victim[2]
    ids[n] = rid
    fields[#fields + 1] = rid
    fields[#fields + 1] = 'o' .. string.sub(value, 2, 20) .. owed .. string.sub(value, 27)
    touched[string.byte(value, 28)] = true
    freed = freed + size_of(value)
    give_back_quota(prefix, sid, raw, h, rid)
  end
  for from = 1, #fields, 1000 do -- Lua's stack has room for some thousand words
    redis.call('HSET', prefix .. 'r:' .. sid, unpack(fields, from, math.min(from + 999, #fields)))
  end
  for number in pairs(touched) do queue_up(prefix, sid, places[number], now, now) end
  h.resources, h.bytes = h.resources - #ids, h.bytes - freed
  count_owed(#ids, freed)
  count('evicted', #ids)
  return ids
end

-- Lets those go that one call may; the caller comes again for the rest.
local function some_room(prefix, sid, raw, h, victims, places, now)
  local ids = evict(prefix, sid, raw, h, victims, places, now)
  save_counts(prefix, sid, h)
  close_books(prefix)
  return {'again', ids, 0}
end
