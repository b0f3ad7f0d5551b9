#!/bin/sh
# Prints the server's users, one for each role, from the passwords in the environment (only their hashes appear).
#
# NAMESPACE is SESSIONSWEEP_NAMESPACE (default ss): everything, the broker's keys too, begins with it.
set -eu
ns="${NAMESPACE:-ss}"

hash() { # hash NAME: the SHA-256 of that variable's value
    eval "value=\${$1:-}"
    [ "${#value}" -ge 16 ] || { echo "$1 has fewer than 16 characters; see deploy/make-env" >&2; exit 1; }
    printf %s "$value" | sha256sum | cut -d ' ' -f 1
}
web=$(hash REDIS_WEB_PASSWORD)
worker=$(hash REDIS_WORKER_PASSWORD)
beat=$(hash REDIS_BEAT_PASSWORD)
flower=$(hash REDIS_FLOWER_PASSWORD)
admin=$(hash REDIS_ADMIN_PASSWORD)

# What nobody needs: KEYS, FLUSHALL, CONFIG, DEBUG, MONITOR, SHUTDOWN, ACL, replication, scripts of others.
# INFO is needed: it tells the run id, the memory policy and the version.
common="+@all -@admin -@dangerous -script|flush -script|kill -function +info"

# No anonymous access. `health` may say PING and nothing else; its password is no secret.
echo "user default off resetpass resetkeys resetchannels -@all"
echo "user health on nopass resetkeys resetchannels -@all +ping"
# The library's keys have a hash tag, {…}; the broker's don't: a web node reads and sends no task.
echo "user web on #$web resetkeys ~$ns:{* resetchannels &$ns:nudge:* $common"
# Celery subscribes to patterns (PSUBSCRIBE), which a server compares literally, hence all channels.
echo "user worker on #$worker resetkeys ~$ns:* ~$ns.* allchannels $common"
echo "user beat on #$beat resetkeys ~$ns:* ~$ns.* allchannels $common"
# Flower sees tasks and sends them; it holds no session's record.
echo "user flower on #$flower resetkeys ~$ns:celery:* ~$ns.* allchannels $common"
# The command line and the admin side.
echo "user admin on #$admin resetkeys ~$ns:* ~$ns.* allchannels $common +slowlog|get +config|get"
