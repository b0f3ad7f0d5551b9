-- Which run of the server this is. Its run id alone doesn't tell: a primary that was replaced, followed its successor and
-- was promoted again without a restart has the same, and has lost what its successor did not know. Each promotion makes
-- another replication id.
local function run_id()
  local id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
  return id .. (string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)') or '')
end
