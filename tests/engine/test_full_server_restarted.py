"""A full server that was restarted: who seems idle, for a lost touch, is touched all the same."""

from __future__ import annotations

from collections.abc import Callable

import redis

from sessionsweep_workers.devstack.server import EmbeddedServer
from support.nodes import Node


def test_a_session_that_seems_idle_is_opened_on_a_full_server_that_was_restarted(
    own_server: Callable[..., EmbeddedServer], make_node: Callable[..., Node]
) -> None:
    server = own_server()
    node = make_node(url=server.url)
    session, token = node.sessions.create()
    tracked = node.sessions.track("key")
    node.advance(11)
    with redis.Redis.from_url(server.url) as client:
        for open_it in (
            lambda: node.sessions.open(token).id == session.id,
            lambda: node.sessions.track("key").id == tracked.id,
        ):
            client.hset(f"{node.settings.namespace}:{{00}}:h", "run", "of another server")
            client.config_set("maxmemory", 500_000)
            assert open_it()
            client.config_set("maxmemory", 0)
