--[[ Replaces a session's secret at once; may bind it to a user. The old token is dead from here on (ASVS 7.2.4).
KEYS
  1 session   string
ARGV
  1 new_mac   16 bytes
  2 bind      1: set the user
  3 user      its name
  4 flags     or-ed into the header's
  5 not_after deadline of a reservation, ms; 0: none
  6 old_macs  16 bytes each, one after the other; empty: a trusted caller
RETURNS {status, now, record}; 1 ok, 0 invalid, 5 the reservation has lapsed
]]
local session = KEYS[1]
local new_mac, bind, user, flags = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local not_after, old_macs = tonumber(ARGV[5]), ARGV[6]
--@include clock
--@include layout
--@include run
--@include over
--@include books
local prefix = string.sub(session, 1, -23)
local sid = string.sub(session, -20)
local raw = redis.call('GET', session)
if not raw then return {0, now} end
local h = header(raw)
if over(prefix, h, now) then return {0, now} end
local mac = string.sub(raw, 3, 18)
if mac == new_mac then return {1, now, raw} end
local known = old_macs == ''
for at = 1, #old_macs, 16 do
  if string.sub(old_macs, at, at + 15) == mac then known = true end
end
if not known then return {0, now} end
if not_after > 0 and now > not_after then return {5, now} end

redis.call('UNLINK', prefix .. 'none') -- a slot being moved refuses here
event(prefix, 'e', 'session_rotated', 's', sid, 'user', bind == '1' and user or '')
local last = math.max(now, h.last)
local tail = string.sub(raw, 73)
if bind == '1' then
  if tail == '' then tail = '\0\0\0\0\0\0\0' end
  local was, rest = struct.unpack('>I2c0', tail, 1)
  tail = struct.pack('>I2c0', #user, user) .. string.sub(tail, rest)
  if was ~= user then
    -- no two bindings of a session share a moment: whoever is late in giving back what it had in the former user's books
    -- sees by it that the session has come back to that user since
    last = math.max(now, h.last + 1)
    local left = string.format('@%.0f', last)
    if bit.band(h.flags, BOOK_USER) > 0 then
      redis.call('RPUSH', prefix .. 'o', 'user\0' .. sid .. '\0' .. was .. '\0' .. left)
      h.flags = h.flags - BOOK_USER
    end
    -- the flag stays: should the session come back in time, its shares are there again
    if bit.band(h.flags, QUOTA) > 0 then
      redis.call('RPUSH', prefix .. 'o', 'user\0' .. sid .. '\0' .. was .. '\0*' .. left)
    end
  end
end
raw = string.char(1, bit.bor(h.flags, flags)) .. new_mac .. string.sub(raw, 19, 56)
  .. struct.pack('>I6', last) .. string.sub(raw, 63, 72) .. tail
redis.call('SET', session, raw)
return {1, now, raw}
