--[[ Verifies a token and touches its session: one key read and written. A due session is ended by this very call.
KEYS
  1 session      string
ARGV
  1 touch        1: counts as activity
  2 family       4, 6 or 0 (address unknown)
  3 fingerprint  3 bytes of that family
  4 enforce      1: another client is refused
  5 grace        ms
  6 hold         ms
  7 macs         the secret's hash under each valid key, 16 bytes each, one after the other
RETURNS {status, now, record or reason}; status 0 invalid, 1 ok, 2 mismatch, 3 refused, 4 ended
]]
local session = KEYS[1]
local touch, family, fingerprint, enforce = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local grace, hold = ARGV[5], ARGV[6]
local macs = ARGV[7]

local raw = redis.call('GET', session)
if not raw then return {0} end
local mac = string.sub(raw, 3, 18)
local known = macs == mac
if not known then
  for at = 1, #macs, 16 do
    if string.sub(macs, at, at + 15) == mac then known = true end
  end
end
if not known then return {0} end
if string.byte(raw, 1) ~= 1 then return {err = 'FORMAT a newer release wrote this session; upgrade this one'} end
--@include clock
local created, idle, max, filed, keep, resources, streams, bytes, last, requests, fp4, fp6 =
  struct.unpack('>I6I5I5I6I6I2I2I6I6I4c3c3', raw, 19)
local idle_end = last + idle
if keep > idle_end then idle_end = keep end
if now >= idle_end or (max > 0 and now >= created + max) then
  local prefix = string.sub(session, 1, -23)
  --@include layout
  --@include books
  --@include run
  --@include hold
  --@include ending
  local expired = max > 0 and now >= created + max
  redis.call('UNLINK', prefix .. 'none') -- ending, and touching who only seems idle, must work on a full server
  -- re-checked against a restarted server: what a lost write forgot must not end a session still in use
  if expired or server_run(prefix, now, tonumber(hold)) == 0 then
    local reason = expired and 'expired' or 'idle'
    finish(prefix, string.sub(session, -20), raw, header(raw), now, reason, tonumber(grace))
    close_books(prefix)
    return {4, now, reason}
  end
end

local status = 1
if family ~= '0' then
  local seen = family == '4' and fp4 or fp6
  if seen ~= fingerprint then
    if seen ~= '\0\0\0' then
      -- a stolen token looks like this, and so does a phone that left the house; whoever holds one may go on and on
      local prefix, sid = string.sub(session, 1, -23), string.sub(session, -20)
      --@include books
      --@include once
      redis.call('UNLINK', prefix .. 'none') -- what is told of a full server must be told there, too
      if once(prefix, 'session_address_changed ' .. sid) then
        remark(prefix, 'e', 'session_address_changed', 's', sid, 'refused', enforce)
      end
      if enforce == '1' then return {3, now} end
      status = 2
    end
    if family == '4' then fp4 = fingerprint else fp6 = fingerprint end
  end
end
if touch == '1' then
  if now > last then last = now end -- activity never moves backwards
  if requests < 4294967295 then requests = requests + 1 end
end
local hot = struct.pack('>I6I4c3c3', last, requests, fp4, fp6)
local done = redis.pcall('SETRANGE', session, 56, hot)
if type(done) == 'table' and done.err then
  -- a full server refuses SETRANGE as the first write of a script, but not after an UNLINK: touching must go on
  if not string.find(done.err, 'OOM', 1, true) then return done end
  redis.call('UNLINK', string.sub(session, 1, -23) .. 'none')
  redis.call('SETRANGE', session, 56, hot)
end
return {status, now, string.sub(raw, 1, 56) .. hot .. string.sub(raw, 73)}
