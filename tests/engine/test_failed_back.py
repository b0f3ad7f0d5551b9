"""A primary that was replaced and is primary again, without a restart, has lost what its successor did not know."""

from __future__ import annotations

from collections.abc import Callable

import redis

from sessionsweep.model.holds import IDLE
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.nodes import Node
from support.processes import wait_until


def follow(server: EmbeddedServer, other: EmbeddedServer) -> None:
    """Makes it a replica of another, and waits until it is."""
    with redis.Redis.from_url(server.url) as client:
        client.config_set("masterauth", other.password)
        client.replicaof("127.0.0.1", str(other.port))
        wait_until(lambda: client.info("replication").get("master_link_status") == "up", 20, "it follows")


def promote(server: EmbeddedServer) -> None:
    """Makes it a primary."""
    with redis.Redis.from_url(server.url) as client:
        client.replicaof("NO", "ONE")


def test_a_primary_that_is_primary_again_holds_idle_ends(
    own_server: Callable[..., EmbeddedServer], make_node: Callable[..., Node]
) -> None:
    """Nobody looked meanwhile: all workers were stopped for a deployment."""
    options = {"extra_config": {"repl-diskless-sync-delay": "0"}}
    primary, replica = own_server(**options), own_server(**options)
    follow(replica, primary)
    node = make_node(url=primary.url, hold=60)
    session, token = node.sessions.create()
    node.trust.watch_server()
    with redis.Redis.from_url(primary.url) as client:
        run_id = client.info("server")["run_id"]
        promote(replica)
        follow(primary, replica)
        promote(primary)
        assert client.info("server")["run_id"] == run_id
    node.trust.watch_server()
    assert node.holds()[IDLE].reason == "restarted"
    node.advance(11)
    assert node.sweep.run_once().idle == 0
    assert node.sessions.open(token).id == session.id


def test_a_replica_that_comes_or_goes_holds_nothing(
    own_server: Callable[..., EmbeddedServer], make_node: Callable[..., Node]
) -> None:
    """Each nightly copy by `redis-cli --rdb` is one."""
    options = {"extra_config": {"repl-diskless-sync-delay": "0", "repl-backlog-ttl": "1"}}
    primary, replica = own_server(**options), own_server(**options)
    node = make_node(url=primary.url)
    node.trust.watch_server()
    with redis.Redis.from_url(primary.url) as client:
        before = client.info("replication")["master_replid"]
        follow(replica, primary)
        node.trust.watch_server()
        promote(replica)
        wait_until(lambda: client.info("replication")["master_replid"] != before, 20, "its history has another id")
    node.trust.watch_server()
    assert node.holds() == {}
