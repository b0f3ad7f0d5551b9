"""What users test their own apps with: it must pass for good apps, fail for leaky ones, and never itself get stuck."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from sessionsweep import InvalidTokenError, Session
from sessionsweep.store import operations as op
from sessionsweep.testing import CrashedError, Deployment
from support.processes import wait_until

pytest_plugins = ["sessionsweep.testing.fixtures"]

Make = Callable[..., Deployment]


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest, tmp_path: Path, namespace: str) -> Iterator[Make]:
    """Deployments of both kinds."""
    url = None if request.param == "memory" else request.getfixturevalue("redis_url")
    made: list[Deployment] = []

    def one(**settings: object) -> Deployment:
        made.append(Deployment(tmp_path, redis_url=url, namespace=namespace, **settings))
        return made[-1]

    yield one
    for deployment in made:
        deployment.close()


def upload(session: Session) -> None:
    """An app's request."""
    with session.new_file("upload", ".txt") as f:
        f.write(b"hello")
    session.data["last"] = f.id
    session.save()


def test_the_fixture(deployment: Deployment) -> None:
    session, token = deployment.sessions.create()
    upload(session)
    assert len(deployment.files()) == 1
    deployment.advance("14m59s")
    deployment.run_passes()
    assert deployment.sessions.open(token).data["last"]
    deployment.advance("15m")
    with pytest.raises(InvalidTokenError):
        deployment.sessions.open(token)
    deployment.assert_nothing_left_behind()
    assert deployment.files() == []


def test_an_app_that_dies_anywhere_leaves_nothing_behind(make: Make) -> None:
    deployment = make()
    session, token = deployment.sessions.create()
    where = []
    for crash in deployment.crashes():
        with crash:
            upload(deployment.sessions.open(token))
        where.append(crash.where)
    assert where[-1] == ""
    assert {"before OpenSession", "after Register", "before Commit", "after Commit", "after SaveData"} <= set(where)
    assert deployment.sessions.get(session.id) is not None, "what lived goes on"
    deployment.assert_nothing_left_behind()


def test_asynchronous_code_dies_the_same_way(make: Make) -> None:
    deployment = make()
    before = set(threading.enumerate())

    async def scenario() -> list[str]:
        sessions, where = deployment.async_sessions, []
        _, token = await sessions.create()
        for crash in deployment.crashes():
            with crash:
                session = await sessions.open(token)
                async with session.new_file("upload") as f:
                    await f.write(b"hello")
            where.append(crash.where)
        begun = set(threading.enumerate()) - before
        assert "sessionsweep" not in {thread.name for thread in begun}, "nothing runs by itself"
        await sessions.store.close()
        return where

    where = asyncio.run(scenario())
    assert {"before OpenSession", "after Register", "before Commit"} <= set(where)
    deployment.assert_nothing_left_behind()


class Circle:
    """Kept by nobody but itself."""

    def __init__(self) -> None:
        self.me = self


def test_a_crash_freezes_what_was_there_for_its_block_alone(deployment: Deployment) -> None:
    gc.unfreeze()  # as with most users; this test run itself freezes
    try:
        with next(deployment.crashes()) as crash:
            assert gc.get_freeze_count() > 0
            deployment.sessions.create()
        assert crash.happened
        assert gc.get_freeze_count() == 0
    finally:
        gc.freeze()


def test_a_crash_freezes_nothing_more_where_its_caller_froze(deployment: Deployment) -> None:
    gc.freeze()
    circle = Circle()
    kept = weakref.ref(circle)
    del circle
    with next(deployment.crashes()) as crash:
        deployment.sessions.create()
    assert crash.happened
    assert gc.get_freeze_count() > 0
    assert kept() is None, "garbage of before the block would have been frozen for ever"


def test_an_app_that_catches_everything_is_dead_all_the_same(deployment: Deployment) -> None:
    session, _ = deployment.sessions.create()
    after = []
    with next(deployment.crashes()) as crash:
        try:
            upload(session)
        except BaseException:
            session.end()  # the dead say nothing
            after.append("never reached")
    assert crash.happened
    assert after == []
    assert deployment.sessions.get(session.id) is not None
    with next(deployment.crashes()), pytest.raises(CrashedError):
        deployment.sessions.get(session.id)


def test_what_is_left_is_named(make: Make) -> None:
    deployment = make()
    session, _ = deployment.sessions.create()
    upload(session)
    (path,) = deployment.files()
    held = path.open("rb")  # somebody reads it for ever
    import fcntl

    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(AssertionError, match=path.name):
        deployment.assert_nothing_left_behind()
    held.close()
    deployment.assert_nothing_left_behind()


def test_an_error_of_the_test_s_own_is_not_swallowed(deployment: Deployment) -> None:
    for crash in deployment.crashes():
        with pytest.raises(ZeroDivisionError), crash:
            _ = 1 / 0
        break


def test_every_operation_dies_before_and_after_itself(deployment: Deployment) -> None:
    session, _ = deployment.sessions.create()
    seen = []
    for crash in deployment.crashes():
        with crash:
            deployment.sessions.store.execute(op.PeekSession(session.id))
        seen.append(crash.where)
    assert seen == ["before PeekSession", "after PeekSession", ""]


@pytest.mark.parametrize("by_block", [True, False])
async def test_asynchronous_connections_are_closed_in_their_loop(
    redis_url: str, namespace: str, tmp_path: Path, by_block: bool
) -> None:
    server = redis.Redis.from_url(redis_url)

    def own() -> list[str]:
        return [one["id"] for one in server.client_list() if one["name"] == namespace]

    named = f"{redis_url}{'&' if '?' in redis_url else '?'}client_name={namespace}"
    deployment = Deployment(tmp_path, redis_url=named, namespace=namespace)
    await deployment.async_sessions.create()
    assert own()
    if by_block:
        async with deployment as same:
            assert same is deployment
    else:
        await deployment.aclose()
    await deployment.aclose()
    wait_until(lambda: not own(), 20, "all of them are closed")
    server.close()
