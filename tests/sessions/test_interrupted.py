"""A store that goes away in the middle of a block: the app's own error comes through, what was begun is cleaned up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sessionsweep import AsyncSessions, StoreError
from sessionsweep.store.redis.aio import AsyncRedisStore
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.nodes import Node


class AppError(Exception):
    """What an app raises."""


@pytest.fixture
def server(own_server: Callable[..., EmbeddedServer], tmp_path: Path) -> EmbeddedServer:
    return own_server(data_dir=tmp_path / "server", extra_config={"appendfsync": "always"})


@pytest.fixture
def node(server: EmbeddedServer, namespace: str, tmp_path: Path) -> Iterator[Node]:
    made = Node(server.url, namespace, tmp_path, idle_timeout=900)
    yield made
    made.close()


@pytest.fixture
def other(node: Node) -> AsyncSessions:
    """The same deployment for asynchronous code."""
    store = AsyncRedisStore(node.store.url, node.settings.namespace, test_clock=True)
    return AsyncSessions(node.settings, store=store)


def cleaned(node: Node, server: EmbeddedServer, session_id: str) -> None:
    """Once the server is back and the session over, nothing of it is left, and the books say so."""
    server.start()
    node.mount()
    node.sessions.end(session_id)
    node.reclaim.run_once()
    stats = node.sessions.stats()
    assert (stats.resources["active"], stats.resources["owed"], stats.imbalance) == (0, 0, 0)


def test_an_error_of_the_app_is_not_hidden(node: Node, server: EmbeddedServer) -> None:
    session, _ = node.sessions.create()
    f = session.new_file()

    def block() -> None:
        with f:
            f.write(b"x")
            server.stop()
            raise AppError

    with pytest.raises(AppError):
        block()
    assert not f.path.exists()
    cleaned(node, server, session.id)


async def test_an_error_of_an_asynchronous_app_is_not_hidden(
    node: Node, other: AsyncSessions, server: EmbeddedServer
) -> None:
    session, _ = await other.create()
    f = session.new_file()

    async def block() -> None:
        async with f:
            await f.write(b"x")
            server.stop()
            raise AppError

    with pytest.raises(AppError):
        await block()
    assert not f.path.exists()
    await other.close()
    cleaned(node, server, session.id)


def test_a_file_that_could_not_be_committed_is_the_stores_error_and_leaves_nothing(
    node: Node, server: EmbeddedServer
) -> None:
    session, _ = node.sessions.create()
    f = session.new_file()

    def block() -> None:
        with f:
            f.write(b"x")
            server.stop()

    with pytest.raises(StoreError):
        block()
    assert not f.path.exists()
    cleaned(node, server, session.id)


def test_a_job_that_is_done_is_done_though_the_store_is_away(
    node: Node, server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    session, rid, _ = node.session_with_file()
    with session.keep_alive("10m"), session.pin(rid) as opened:
        server.stop()
        assert opened.read() == b"x" * 100
    assert sum("stays deferred until it lapses" in record.getMessage() for record in caplog.records) == 2


async def test_an_asynchronous_job_that_is_done_is_done_though_the_store_is_away(
    other: AsyncSessions, server: EmbeddedServer
) -> None:
    session, _ = await other.create()
    async with session.keep_alive("10m"):
        server.stop()
    await other.close()


class Slow:
    """A file object of an app's; notes which thread reads it."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.chunks = [b"one", b"two", b""]

    def read(self, size: int) -> bytes:
        self.threads.add(threading.get_ident())
        return self.chunks.pop(0)


class Upload(Slow):
    """The same, awaited."""

    async def read(self, size: int) -> bytes:  # type: ignore[override]
        return super().read(size)


@pytest.mark.parametrize("kind", [Slow, Upload])
async def test_reading_what_is_copied_never_blocks_the_loop(kind: type[Slow], other: AsyncSessions, node: Node) -> None:
    node.mount()
    session, _ = await other.create()
    source = kind()
    async with session.new_file() as f:
        assert await f.copy_from(source) == 6
    assert (threading.get_ident() in source.threads) == (kind is Upload)
    await other.close()
