-- A limit of the session's own refuses something: told at most once a second, for its client may try on and on.
-- Needs books, once.
local LIMITS = {['limit:resources'] = 'MAX_RESOURCES_PER_SESSION', ['limit:bytes'] = 'MAX_BYTES_PER_SESSION',
  ['limit:streams'] = 'MAX_STREAMS_PER_SESSION'}
local function refused(prefix, sid, status, value)
  redis.call('UNLINK', prefix .. 'none') -- what is told of a full server must be told there, too
  if once(prefix, LIMITS[status] .. ' ' .. sid) then
    remark(prefix, 'e', 'limit_reached', 's', sid, 'limit', LIMITS[status], 'value', string.format('%.0f', value))
  end
  return {status, {}, 0}
end
