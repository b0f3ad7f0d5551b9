-- The line of a location in a session's `@`, made if need be. A byte holds its number: once 255 are there (a session that
-- outlived as many processes), one that no record names any more is taken over. nil: all are in use.
local function line_for(rkey, places, location)
  for i, place in ipairs(places) do
    if place == location then return i, false end
  end
  if #places < 255 then
    places[#places + 1] = location
    return #places, true
  end
  local used, all = {}, redis.call('HGETALL', rkey)
  for i = 1, #all, 2 do
    if is_record(all[i]) and is_sound(all[i + 1]) then used[string.byte(all[i + 1], 28)] = true end
  end
  for i = 1, 255 do
    if not used[i] then
      places[i] = location
      return i, true
    end
  end
end
