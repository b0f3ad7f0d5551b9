#!/bin/sh
# Starts the server with its users; runs as an unprivileged user in the redis image.
set -eu
umask 077
sh /deploy/redis/acl.sh >/run/redis/users.acl
exec redis-server /deploy/redis/redis.conf --dir /data --aclfile /run/redis/users.acl
