"""A full server: whatever is new is refused with a typed error; sessions live on, and cleaning makes room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis

from sessionsweep import StoreFullError
from sessionsweep.store import operations as op
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.books import members
from support.nodes import Node


@pytest.fixture
def server(own_server: Callable[..., EmbeddedServer]) -> EmbeddedServer:
    """A server that this test may fill."""
    return own_server()


@contextmanager
def full(server: EmbeddedServer) -> Iterator[None]:
    """Lowers the limit below what is in use: nothing that a server calls a write that needs memory passes."""
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 500_000)
        with pytest.raises(redis.OutOfMemoryError):
            client.set("x", "y")
        try:
            yield
        finally:
            client.config_set("maxmemory", 0)


def test_everything_new_is_refused_and_nothing_of_it_remains(
    server: EmbeddedServer, make_node: Callable[..., Node]
) -> None:
    node = make_node(url=server.url, max_sessions=10, max_sessions_per_user=3)
    node.mount()
    session, token = node.sessions.create(user="ana")
    with redis.Redis.from_url(server.url) as client:
        before = set(client.keys())
    with full(server):
        for create in (
            lambda: node.sessions.create(),
            lambda: node.sessions.create(user="bob"),
            lambda: node.sessions.track("key"),
            lambda: node.write(session),
        ):
            with pytest.raises(StoreFullError):
                create()
        assert node.sessions.open(token).id == session.id
    with redis.Redis.from_url(server.url) as client:
        assert set(client.keys()) == before
    assert len(session.resources()) == 0


def test_a_session_that_logs_in_keeps_its_token(server: EmbeddedServer, make_node: Callable[..., Node]) -> None:
    node = make_node(url=server.url)
    session, _ = node.sessions.create()
    with full(server):
        token = session.log_in("ana")
    assert node.sessions.open(token).user == "ana"
    assert members(node.store.execute, "ana") == (session.id,)


def test_a_save_is_refused_whole_and_without_data_renews(
    server: EmbeddedServer, make_node: Callable[..., Node]
) -> None:
    node = make_node(url=server.url)
    session, token = node.sessions.create(data={"a": 1})
    with redis.Redis.from_url(server.url) as client:
        filed = client.keys("*:w*")
        with full(server):
            with pytest.raises(StoreFullError):
                node.store.execute(op.SaveData(session.id, {"a": b"2"}, renew=True, idle=1, width=1))
            assert client.keys("*:w*") == filed
            assert node.store.execute(op.SaveData(session.id, {}, renew=True, idle=60_000, width=1)).record is not None
    assert node.sessions.open(token).data == {"a": 1}
    assert 55 < node.sessions.open(token).expires_in <= 60


def test_the_backlog_drains_with_every_pass_that_workers_run(
    server: EmbeddedServer, make_node: Callable[..., Node]
) -> None:
    node = make_node(url=server.url)
    due = [node.session_with_file()[2] for _ in range(30)]
    node.upkeep.run_once()
    node.advance(11)
    with full(server):
        # a worker's own sweep, and the message that begins a reclaim, begin with a lease
        assert node.store.execute(op.TakeLease("sweep", "mine", 1000))
        assert node.sweep.run_once().idle == 30
        node.upkeep.run_once()
    node.advance(2)
    with full(server):
        assert node.reclaim.run_once().deleted == 30
        assert node.orphans.run_once().files == 0
    assert not [path for path in due if path.exists()]
    assert node.sweep.run_once().idle == 0


def test_a_hold_is_put_on_a_full_server(server: EmbeddedServer, make_node: Callable[..., Node]) -> None:
    node = make_node(url=server.url)
    node.session_with_file()
    (volume,) = node.core.mounts.here()
    node.upkeep.run_once()
    with redis.Redis.from_url(server.url) as client:
        client.hset(f"{node.settings.namespace}:{{g}}:meta", "deployment", "another")
    with full(server):
        assert node.reclaim.run_once().held
    assert f"volume:{volume.id}" in node.holds()
