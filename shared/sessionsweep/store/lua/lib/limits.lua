-- A limit of the session's own refuses something: told at most once a second, for its client may try on and on.
-- Needs books, once.
local function refused(prefix, sid, status, value)
  local setting = status == 'limit:bytes' and 'MAX_BYTES_PER_SESSION' or status == 'limit:streams' and 'MAX_STREAMS_PER_SESSION'
    or 'MAX_RESOURCES_PER_SESSION'
  redis.call('UNLINK', prefix .. 'none') -- what is told of a full server must be told there, too
  if once(prefix, setting .. ' ' .. sid) then
    remark(prefix, 'e', 'limit_reached', 's', sid, 'limit', setting, 'value', string.format('%.0f', value))
  end
  return {status, {}, 0}
end
