-- The packed layouts (the model of redis/codec.py). Session header, 72 bytes, big-endian, 1-based positions:
--   1 version · 2 flags · 3-18 mac · 19-24 created · 25-29 idle · 30-34 max · 35-40 filed · 41-46 keep-alive
--   47-48 resources · 49-50 streams · 51-56 bytes · 57-62 last activity · 63-66 requests · 67-69 fp4 · 70-72 fp6
-- then user (2+n) alias (1+n) ip (1+n) agent (2+n) node (1+n) and data: (2+n key, 4+n value)*; absent when empty.
local BOOK_USER, BOOK_TOTAL, QUOTA, OWNS, ALIAS = 1, 2, 4, 8, 16
local FAR = 1e15

local function header(raw)
  local h = {}
  -- never guessed: a newer release wrote it, and a newer release ends it
  if string.byte(raw, 1) ~= 1 then error({err = 'FORMAT a newer release wrote this session; upgrade this one'}) end
  if #raw < 72 then error({err = 'DAMAGED a session is cut short'}) end
  h.flags = string.byte(raw, 2)
  h.created, h.idle, h.max, h.filed, h.keep, h.resources, h.streams, h.bytes, h.last, h.requests =
    struct.unpack('>I6I5I5I6I6I2I2I6I6I4', raw, 19)
  return h
end

-- when it must be looked at: the idle end (deferred by a keep-alive) or the absolute one, the earlier
local function dies(h)
  local idle = h.last + h.idle
  if h.keep > idle then idle = h.keep end
  local old = h.max > 0 and h.created + h.max or FAR
  return idle, old
end

-- state kind size created used until tries location# purpose error
local RES = '>c1c1I6I6I6I6BBBc0Bc0'
local function res(value)
  local v = {}
  v.state, v.kind, v.size, v.created, v.used, v.till, v.tries, v.loc, v.purpose, v.error = struct.unpack(RES, value)
  return v
end
local function pack(v)
  return struct.pack(RES, v.state, v.kind, v.size, v.created, v.used, v.till, v.tries, v.loc,
    #v.purpose, v.purpose, #v.error, v.error)
end

-- `@` holds a session's locations, one per line; a record holds the line's number
local function lines(text)
  local out = {}
  for line in string.gmatch(text or '', '[^\n]+') do out[#out + 1] = line end
  return out
end
local function is_record(field) return string.byte(field) ~= 64 end -- 64: '@'

-- Loops over many records read single fields at their places (1-based): decoding each whole costs five times as much.
-- state 1 · kind 2 · size 3-8 · created 9-14 · used 15-20 · till 21-26 · tries 27 · location's number 28 · texts
local LIVE, OWED, DEAD, INTENT, STREAM = 108, 111, 100, 105, 115 -- l, o, d, i, s
local STATES = {[LIVE] = true, [OWED] = true, [DEAD] = true, [INTENT] = true}
local KINDS = {[102] = true, [STREAM] = true, [111] = true, [120] = true} -- f, s, o, x
local function is_sound(value) -- not cut short, nor written by somebody else: such a one must stop only itself
  local state, kind = string.byte(value, 1, 2)
  local purpose = STATES[state] and KINDS[kind] and string.byte(value, 29)
  local message = purpose and string.byte(value, 30 + purpose)
  return message ~= nil and #value == 30 + purpose + message
end
local function size_of(value) return (struct.unpack('>I6', value, 3)) end
local function till_of(value) return (struct.unpack('>I6', value, 21)) end

-- whoever may write to the server may put anything where ids stand
local function is_id(sid) return #sid == 20 and not string.find(sid, '[^0-9a-z]') end
local function is_rid(rid) return #rid <= 25 and not string.find(rid, '[^0-9a-z.]') end
