"""After `close`: no new connection, a typed error; and nudges for who may not hear them, in both stores' senders."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from sessionsweep import AsyncSessions, Sessions, Settings, StoreUnavailableError
from sessionsweep.engine.reclaim import Reclaim
from sessionsweep.store import operations as op
from sessionsweep.store.redis.aio import AsyncRedisStore
from sessionsweep.store.redis.sync import RedisStore
from sessionsweep_workers.devstack.server import EmbeddedServer

POLL = 0.01


@pytest.fixture
def settings(redis_url: str, namespace: str) -> Settings:
    return Settings(redis_url=redis_url, namespace=namespace, secret_key="k" * 40)


def test_a_closed_store_makes_no_new_connection(settings: Settings) -> None:
    sessions = Sessions(settings)
    session, token = sessions.create()
    sessions.close()
    sessions.close()
    for call in (lambda: sessions.open(token), sessions.create, lambda: session.extend(), session.resources):
        with pytest.raises(StoreUnavailableError, match="closed in this process; make a new Sessions"):
            call()  # type: ignore[operator]
    (answer,) = sessions.store.execute_many([op.Facts()])
    assert isinstance(answer, StoreUnavailableError)
    with closing(Sessions(settings)) as another:
        assert another.open(token).request_count == 2, "the refused calls did nothing"


async def test_a_closed_asynchronous_store_makes_no_new_link(settings: Settings) -> None:
    sessions = AsyncSessions(settings)
    session, token = await sessions.create()
    await sessions.close()
    await sessions.close()
    for call in (lambda: sessions.open(token), sessions.create, lambda: session.extend(), session.resources):
        with pytest.raises(StoreUnavailableError, match="closed in this process; make a new Sessions"):
            await call()  # type: ignore[operator]
    (answer,) = await sessions.store.execute_many([op.Facts()])
    assert isinstance(answer, StoreUnavailableError)


def test_each_event_loop_closes_its_own_link(settings: Settings) -> None:
    sessions = AsyncSessions(settings)

    async def job() -> int:
        await sessions.create()
        await sessions.close()
        with pytest.raises(StoreUnavailableError):
            await sessions.create()
        return 1

    assert [asyncio.run(job()) for _ in range(3)] == [1, 1, 1]


def test_one_loops_close_leaves_another_loop_its_link(settings: Settings) -> None:
    sessions = AsyncSessions(settings)
    closed, opened = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    async def of_thread() -> None:
        session, _ = await sessions.create()
        opened.set()
        assert await asyncio.to_thread(closed.wait, 30)
        await session.extend()
        await sessions.close()

    def run() -> None:
        try:
            asyncio.run(of_thread())
        except BaseException as failure:
            failures.append(failure)

    async def of_main() -> None:
        await sessions.create()
        await sessions.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert opened.wait(30)
    asyncio.run(of_main())
    closed.set()
    thread.join()
    assert failures == []


def test_nudges_end_with_the_store(redis_url: str, namespace: str) -> None:
    store = RedisStore(redis_url, namespace)
    heard = store.nudges(["v.x"], POLL)
    assert next(heard) == ""
    store.close()
    assert list(heard) == []


async def test_asynchronous_nudges_end_with_the_store(redis_url: str, namespace: str) -> None:
    store = AsyncRedisStore(redis_url, namespace)
    heard = store.nudges(["v.x"], POLL)
    assert await anext(heard) == ""
    await store.close()
    assert [nudge async for nudge in heard] == []


@pytest.fixture
def deaf(own_server: Callable[..., EmbeddedServer]) -> str:
    """The URL of a user who may do everything but subscribe."""
    url = own_server().url
    with redis.Redis.from_url(url) as client:
        client.execute_command("ACL", "SETUSER", "deaf", "on", ">secret", "~*", "+@all", "resetchannels")
    parts = urlsplit(url)
    return parts._replace(netloc=f"deaf:secret@{parts.hostname}:{parts.port}").geturl()


def test_who_may_not_subscribe_is_told_once(deaf: str, caplog: pytest.LogCaptureFixture) -> None:
    store = RedisStore(deaf)
    heard = store.nudges(["v.x"], POLL)
    assert [next(heard) for _ in range(5)] == [""] * 5
    assert told(caplog) == 1
    store.close()


async def test_asynchronous_code_that_may_not_subscribe_is_told_once(
    deaf: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = AsyncRedisStore(deaf)
    heard = store.nudges(["v.x"], POLL)
    assert [await anext(heard) for _ in range(5)] == [""] * 5
    assert told(caplog) == 1
    await store.close()


def told(caplog: pytest.LogCaptureFixture) -> int:
    """How often a log line said that nudges aren't heard."""
    return sum(r.levelno == logging.WARNING and "hears no nudges" in r.getMessage() for r in caplog.records)


def test_who_may_not_publish_ends_sessions_whole(deaf: str, tmp_path: Path) -> None:
    settings = Settings(redis_url=deaf, secret_key="k" * 40, node="a", volumes=f"a={tmp_path / 'a'}")
    with closing(Sessions(settings)) as sessions:
        session, _ = sessions.create()
        with session.new_file() as file:
            file.write(b"x")
        assert session.end()
        stats = sessions.stats()
        assert (stats.active_sessions, stats.resources["owed"], stats.imbalance) == (0, 1, 0)
        assert Reclaim(sessions.core, sessions.store).run_once().deleted == 1
        assert not file.path.exists()
