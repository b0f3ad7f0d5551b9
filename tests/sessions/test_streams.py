"""Open connections: registered while they live, closed in their own process whoever ends the session, and counted."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

import pytest

from sessionsweep import AsyncSessions, LimitReachedError, SessionEndedError, Sessions, StoreUnavailableError
from sessionsweep.engine.silence import CONFIRM, Silence
from sessionsweep.engine.upkeep import Upkeep
from sessionsweep.model.books import imbalance
from sessionsweep.sessions import streams as streams_module
from sessionsweep.settings import Settings
from sessionsweep.store import operations as op
from support.processes import wait_until

Make = Callable[..., Sessions]


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest, namespace: str) -> Iterator[Make]:
    """Another process's sessions each time: the same store, its own streams."""
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    made: list[Sessions] = []

    def one(**changes: object) -> Sessions:
        values = {"redis_url": url, "namespace": namespace, "secret_key": "k" * 32, "cleanup_interval": 1, **changes}
        made.append(Sessions(Settings(**values)))
        return made[-1]

    yield one
    for sessions in made:
        sessions.close()


class Socket:
    """A connection that can be closed once."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.reason = ""

    def close(self, reason: str) -> None:
        assert not self.closed.is_set()
        self.reason = reason
        self.closed.set()


def books(sessions: Sessions) -> dict[str, int]:
    """Counters of the only partition; they always balance."""
    counters = dict(sessions.store.execute(op.Counters("00")))
    assert imbalance(counters) == 0
    return counters


def open_streams(sessions: Sessions, session_id: str) -> int:
    """As the store counts them."""
    found = sessions.get(session_id)
    assert found is not None
    return found.stream_count


@pytest.mark.parametrize("reason", ["logout", "admin", "user"])
def test_a_stream_is_closed_where_it_is_open_when_another_process_ends_its_session(make: Make, reason: str) -> None:
    here, there = make(), make()
    session, _ = here.create(user="ana")
    other, _ = here.create(user="bob")
    socket, untouched = Socket(), Socket()
    with session.stream("chat", close=socket.close) as stream, other.stream("chat", close=untouched.close):
        assert open_streams(there, session.id) == 1
        (connection,) = there.connections("ana")
        assert (connection.id, connection.session_id, connection.purpose) == (stream.id, session.id, "chat")
        if reason == "user":
            there.end_user("ana")
        else:
            there.end(session.id, reason=reason)
        assert socket.closed.wait(10)
        assert (socket.reason, stream.reason) == (reason, reason)
        wait_until(lambda: books(here).get("owed", 0) == 0, what="it is acknowledged")
        assert not untouched.closed.is_set()
        assert (books(here)["deleted"], books(here)["active"]) == (1, 1)
    assert (books(here)["deleted"], books(here)["active"]) == (2, 0)
    assert there.connections("ana") == []


def test_a_stream_that_its_client_leaves_is_given_back_at_once(make: Make) -> None:
    sessions = make(max_streams_per_session=1)
    session, _ = sessions.create()
    for _ in range(3):
        more = session.stream(close=Socket().close)
        with session.stream(close=Socket().close), pytest.raises(LimitReachedError, match="MAX_STREAMS_PER_SESSION"):
            more.__enter__()
    assert (books(sessions)["reg"], books(sessions)["deleted"]) == (3, 3)
    assert sessions.streams.mine() == []


def test_no_stream_opens_in_an_ended_session(make: Make) -> None:
    sessions = make()
    session, _ = sessions.create()
    session.end()
    with pytest.raises(SessionEndedError):
        session.stream(close=Socket().close).__enter__()
    assert sessions.streams.mine() == []


def test_a_client_that_comes_right_back_finds_its_place(make: Make) -> None:
    sessions = make(max_streams_per_session=1)
    session, _ = sessions.create()
    with session.stream("chat", close=Socket().close, linger=60) as first:
        pass
    with pytest.raises(LimitReachedError):  # it is kept for the same purpose only
        session.stream("news", close=Socket().close, linger=60).__enter__()
    with session.stream("chat", close=Socket().close, linger=0.01) as second:
        assert second.id == first.id
        assert books(sessions)["reg"] == 1
    wait_until(lambda: books(sessions)["active"] == 0, what="the place is given back when its time is over")
    with session.stream("news", close=Socket().close):
        pass


def test_two_clients_of_a_session_leave_two_places(make: Make) -> None:
    sessions = make(max_streams_per_session=2)
    session, _ = sessions.create()
    left = set()
    for linger in (60, 0.01):
        with (
            session.stream("chat", close=Socket().close, linger=linger) as one,
            session.stream("chat", close=Socket().close, linger=linger) as two,
        ):
            left |= {one.id, two.id}
    assert len(left) == 2
    wait_until(lambda: books(sessions)["active"] == 0, what="both are given back when their time is over")


def test_a_place_that_lingers_ends_with_its_session(make: Make) -> None:
    sessions = make()
    session, _ = sessions.create()
    with session.stream("chat", close=Socket().close, linger=60):
        pass
    sessions.end(session.id)
    wait_until(lambda: books(sessions)["owed"] == 0, what="nothing is owed")
    assert sessions.streams._lingering == {}


def test_nobody_takes_a_place_while_it_ends_with_its_session(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = make()
    session, _ = sessions.create()
    with session.stream("chat", close=Socket().close, linger=60):
        pass
    told: list[type[BaseException] | None] = []
    really_settle = sessions.streams._settle

    def come_back(location: str) -> bool:
        """In between of finding what is open and acknowledging it."""
        if sessions.streams._closing and not told:
            try:
                session.stream("chat", close=lambda _: None, linger=60).__enter__()
                told.append(None)
            except SessionEndedError as error:
                told.append(type(error))
        return really_settle(location)

    monkeypatch.setattr(sessions.streams, "_settle", come_back)
    sessions.end(session.id)
    wait_until(lambda: told, what="the end reached this process")
    assert told[0] is SessionEndedError
    wait_until(lambda: books(sessions)["owed"] == 0, what="nothing is owed")
    assert sessions.streams.mine() == []


def test_a_place_that_the_store_did_not_take_back_is_given_back_later(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = make(max_streams_per_session=1)
    session, _ = sessions.create()
    failed = threading.Event()
    really = sessions.store.execute_many

    def away(operations: Sequence[Any]) -> list[Any]:
        if operations and not failed.is_set():
            failed.set()
            return [StoreUnavailableError("away") for _ in operations]
        return really(operations)

    with session.stream("chat", close=Socket().close, linger=0.01):
        monkeypatch.setattr(sessions.store, "execute_many", away)
    assert failed.wait(20)
    wait_until(lambda: open_streams(sessions, session.id) == 0, what="it is tried again")


def test_what_does_not_close_is_tried_again_and_keeps_no_other_open(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams_module, "CLOSING", 0.05)
    here, there = make(), make()
    session, _ = here.create()
    never: Future[None] = Future()
    tries = []

    def fails(reason: str) -> None:
        tries.append(reason)
        if len(tries) == 1:
            raise OSError("the socket is busy")

    good = Socket()
    with (
        session.stream("a", close=lambda _: never),
        session.stream("b", close=fails),
        session.stream("c", close=good.close),
    ):
        there.end(session.id)
        assert good.closed.wait(10)
        wait_until(lambda: len(tries) == 2, what="the one that failed was closed again")
        wait_until(lambda: books(here)["owed"] == 1, what="all but one are acknowledged")
        never.set_result(None)
        wait_until(lambda: books(here)["owed"] == 0, what="the late one, too")


def test_a_client_that_does_not_read_holds_up_nobody(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "CLOSING", 600.0)
    here, there = make(), make()
    stalled, _ = here.create()
    other, _ = here.create()
    told: list[str] = []
    stuck: Future[None] = Future()

    def stall(reason: str) -> Future[None]:
        told.append(reason)
        return stuck

    beside, socket = Socket(), Socket()
    with (
        stalled.stream("a", close=stall),
        stalled.stream("b", close=beside.close),
        other.stream("c", close=socket.close),
    ):
        there.end(stalled.id)
        assert beside.closed.wait(10)
        there.end(other.id)
        assert socket.closed.wait(10)
        wait_until(lambda: books(here)["owed"] == 1, what="all but the stalled one are acknowledged")
        stuck.set_result(None)
        wait_until(lambda: books(here)["owed"] == 0, what="it is acknowledged, too")
    assert (told, books(here)["deleted"]) == (["admin"], 3)


def test_more_streams_of_a_session_than_a_lease_takes_are_closed_soon(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams_module, "BATCH", 2)
    here, there = make(cleanup_interval=3600), make()
    session, _ = here.create()
    sockets = [Socket() for _ in range(5)]
    with ExitStack() as stack:
        for socket in sockets:
            stack.enter_context(session.stream(close=socket.close))
        there.end(session.id)
        assert all(socket.closed.wait(10) for socket in sockets)
    wait_until(lambda: books(here)["owed"] == 0, what="all are acknowledged")


def test_a_process_that_stops_gives_its_places_back(make: Make) -> None:
    here, there = make(), make()
    session, _ = here.create()
    ended, _ = here.create()
    never: Future[None] = Future()
    told = threading.Event()

    def stall(_: str) -> Future[None]:
        told.set()
        return never

    with session.stream("chat", close=Socket().close, linger=60):
        pass
    with session.stream("news", close=Socket().close), ended.stream("chat", close=stall):
        there.end(ended.id)
        assert told.wait(10)
        assert (open_streams(there, session.id), books(there)["owed"]) == (2, 1)
        assert here.streams.process in there.store.execute(op.Table("p"))
        here.close()
        assert (open_streams(there, session.id), books(there)["owed"]) == (0, 0)
        assert here.streams.process not in there.store.execute(op.Table("p"))


def test_without_nudges_the_queue_is_looked_at(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = make(), make()
    session, _ = here.create()
    socket = Socket()
    real = here.store.nudges
    monkeypatch.setattr(here.store, "nudges", lambda locations, poll: ("" for _ in real(["v.elsewhere"], poll)))
    with session.stream(close=socket.close):
        there.end(session.id)
        assert socket.closed.wait(20)


def test_a_process_that_was_taken_for_dead_closes_what_the_store_forgot(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = make()
    session, _ = here.create()
    socket = Socket()
    with session.stream(close=socket.close) as stream:
        # its heartbeat lapsed while it slept, and a worker closed the books
        row = str(here.store.execute(op.Facts()).now - 61_000)
        here.store.execute(op.TablePut("p", here.streams.process, row))
        upkeep = Upkeep(here.core, here.store, silence=Silence(itertools.count(0, CONFIRM).__next__))
        assert [upkeep.run_once().streams for _ in range(2)] == [0, 1], "one look proves nothing"
        monkeypatch.setattr(streams_module, "HEARTBEAT", 0.1)
        assert socket.closed.wait(10)
        assert stream.reason == "lost"
        assert open_streams(here, session.id) == 0
    assert books(here)["gone"] == 1


def test_asynchronous_code_leaves_its_block_when_the_session_ends(make: Make) -> None:
    there = make()

    async def scenario() -> None:
        here = AsyncSessions(there.settings)
        session, _ = await here.create(user="ana")
        entered, left = asyncio.Event(), []

        async def connection() -> None:
            try:
                async with session.stream("chat") as stream:
                    entered.set()
                    await asyncio.Event().wait()
            except SessionEndedError as ended:
                task = asyncio.current_task()
                assert task is not None
                left.append((ended.reason, stream.reason, task.cancelling()))

        task = asyncio.create_task(connection())
        await entered.wait()
        assert [one.purpose for one in await here.connections("ana")] == ["chat"]
        await asyncio.to_thread(there.end, session.id, reason="logout")
        await asyncio.wait_for(task, 60)
        assert left == [("logout", "logout", 0)]
        await asyncio.to_thread(wait_until, lambda: books(there)["owed"] == 0, 10, "it is acknowledged")

        again, _ = await here.create()
        async with again.stream("chat"):
            pass
        with pytest.raises(RuntimeError, match="the app's own"):
            async with again.stream("chat"):
                raise RuntimeError("the app's own")
        assert books(there)["active"] == 0
        assert here.streams.mine() == []
        await here.close()

    asyncio.run(scenario())


def test_a_stream_that_is_left_while_the_store_is_away_is_given_back_later(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = make()

    async def scenario() -> None:
        here = AsyncSessions(there.settings)
        session, _ = await here.create()
        really = here.store.execute

        async def away(operation: Any) -> Any:
            if isinstance(operation, op.Settle):
                raise StoreUnavailableError("away")
            return await really(operation)

        monkeypatch.setattr(here.store, "execute", away)
        async with session.stream("chat"):
            assert await asyncio.to_thread(open_streams, there, session.id) == 1
        await asyncio.to_thread(wait_until, lambda: open_streams(there, session.id) == 0, 10, "it is tried again")
        await here.close()

    asyncio.run(scenario())


def test_a_stream_whose_opening_is_cancelled_leaves_nothing(make: Make) -> None:
    there = make()

    async def scenario() -> None:
        here = AsyncSessions(there.settings)
        session, _ = await here.create()
        for steps in range(12):
            task = asyncio.create_task(session.stream("chat").__aenter__())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            try:
                stream = await task
            except asyncio.CancelledError:
                pass
            else:
                await stream.__aexit__(None, None, None)
        await asyncio.to_thread(wait_until, lambda: books(there).get("active", 0) == 0, 10, "nothing stays")
        assert here.streams.mine() == []
        await here.close()

    asyncio.run(scenario())


def test_a_forked_child_begins_without_its_parents_streams(make: Make) -> None:
    sessions = make()
    session, _ = sessions.create()
    with session.stream(close=Socket().close):
        parent = sessions.streams.process
        sessions.streams._pid = -1  # what a child finds
        with session.stream(close=Socket().close):
            assert sessions.streams.process != parent
            assert len(sessions.streams.mine()) == 1


class Asked:
    """A lock that counts who has asked for it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.times = 0

    def __enter__(self) -> None:
        self.times += 1
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_threads_that_are_first_together_are_one_process(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    streams, asked, names = make().streams, Asked(), []
    monkeypatch.setattr(streams_module, "_first_use", asked, raising=False)
    second = threading.Thread(target=lambda: (streams.begin(), names.append(streams.process)))
    really_reset = streams._reset

    def while_another_comes() -> None:
        if second.ident is None:
            second.start()
            wait_until(lambda: asked.times == 2 or names, what="the other is there, too")
        really_reset()

    monkeypatch.setattr(streams, "_reset", while_another_comes)
    streams.begin()
    second.join(60)
    assert names == [streams.process]


PRELOADED = """
import os, signal, sys, threading
from sessionsweep import Sessions, Settings
from sessionsweep.sessions import streams

sessions = Sessions(Settings(redis_url=sys.argv[1], namespace=sys.argv[2], secret_key="k" * 32))
session, _ = sessions.create()
with session.stream("parent", close=print), streams._first_use:  # another thread is just beginning
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        start, closed, opened = threading.Barrier(8), threading.Semaphore(0), []

        def connection():
            start.wait()
            stream = session.stream("child", close=lambda _: closed.release())
            stream.__enter__()
            opened.append(stream)

        threads = [threading.Thread(target=connection) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert len(sessions.streams.mine()) == 8
        sessions.end(session.id)
        for _ in threads: closed.acquire()
        sessions.close()
        os._exit(0)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255)
"""


def test_a_child_that_is_forked_in_the_middle_of_it_listens_for_all_its_streams(redis_url: str, namespace: str) -> None:
    subprocess.run([sys.executable, "-c", PRELOADED, redis_url, namespace], check=True, timeout=120)
