-- Which run of the server this is. Its run id alone doesn't tell: a primary that was replaced, followed its successor and
-- was promoted again without a restart has the same, and has lost what its successor did not know. Each promotion leaves
-- the id of the history that it went on with as the second replication id. The first one changes without any loss, too:
-- when a first replica comes, and when none was there for an hour.
local function run_id()
  local id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
  local former = string.match(redis.call('INFO', 'replication'), 'master_replid2:(%w+)') or ''
  return string.match(former, '^0*$') and id or id .. former
end
