"""The shared connection of an event loop: cancelled waiters, cut connections, lost scripts, silent servers."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socketserver
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import redis

from sessionsweep.errors import OutcomeUnknownError, StoreError, StoreUnavailableError
from sessionsweep.model.ids import new_session_id
from sessionsweep.store import operations as op
from sessionsweep.store.redis.aio import AsyncRedisStore
from sessionsweep.store.redis.sync import RedisStore
from sessionsweep_workers.devstack.server import EmbeddedServer

MAC = b"m" * 16
Servers = Callable[..., EmbeddedServer]
#: Calls that are cancelled, of all seeds; `make scale` runs 100,000.
CANCELLED = int(os.environ.get("LINK_CANCELLED", "7000"))
SEEDS = 5


def create(sid: str) -> op.CreateSession:
    return op.CreateSession(sid, MAC, 3_600_000, 0, 10_000)


async def create_many(store: AsyncRedisStore, count: int) -> list[str]:
    ids = [new_session_id("00") for _ in range(count)]
    await store.execute_many([create(sid) for sid in ids])
    return ids


@pytest.fixture
async def store(redis_url: str, namespace: str) -> AsyncIterator[AsyncRedisStore]:
    store = AsyncRedisStore(redis_url, namespace)
    yield store
    await store.close()


class NotRedis(socketserver.BaseRequestHandler):
    """A web server stands where the server should."""

    def handle(self) -> None:
        while self.request.recv(4096):
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.fixture
def not_redis() -> Iterator[str]:
    """The URL of a web server."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), NotRedis) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_a_cancelled_call_never_gives_its_reply_to_another(store: AsyncRedisStore, seed: int) -> None:
    ids = await create_many(store, 40)
    chance = random.Random(seed)
    checked = cancelled = 0

    # a record is given the id that its caller asked for: only the data shows whose reply it was
    for number, sid in enumerate(ids):
        await store.execute(op.SaveData(sid, {"number": str(number).encode()}))

    async def look(number: int) -> None:
        nonlocal checked
        opened = await store.execute(op.OpenSession(ids[number], (MAC,)))
        assert opened.record is not None
        assert opened.record.data == {"number": str(number).encode()}
        checked += 1

    stream = store._link()._stream
    while cancelled < CANCELLED / SEEDS:
        tasks = [asyncio.create_task(look(chance.randrange(40))) for _ in range(60)]
        ticks = chance.randrange(4)
        for _ in range(ticks):
            await asyncio.sleep(0)
        for task in tasks:
            if chance.random() < 0.5 and task.cancel():
                cancelled += ticks > 0  # else it was never sent
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert outcome is None or isinstance(outcome, asyncio.CancelledError)
    assert checked > cancelled / 3
    assert store._link()._stream is stream, "a cancelled waiter costs nobody the connection"


async def test_calls_beyond_one_write_are_all_answered_in_order(store: AsyncRedisStore) -> None:
    ids = await create_many(store, 333)
    for number in range(0, 333, 50):
        await store.execute(op.SaveData(ids[number], {"number": str(number).encode()}))
    replies = await asyncio.gather(*[store.execute(op.PeekSession(sid)) for sid in ids])
    assert [reply.record.session_id for reply in replies if reply.record] == ids
    for number in range(0, 333, 50):
        record = replies[number].record
        assert record is not None
        assert record.data == {"number": str(number).encode()}


async def test_a_lost_script_is_loaded_and_only_its_calls_are_sent_again(own_server: Servers) -> None:
    store = AsyncRedisStore(own_server().url)
    try:
        ids = await create_many(store, 5)
        before = [(await store.execute(op.OpenSession(sid, (MAC,)))).record for sid in ids]
        await store._link().call(b"*2\r\n$6\r\nSCRIPT\r\n$5\r\nFLUSH\r\n", "", False)
        calls: list[op.Operation[object]] = [op.OpenSession(sid, (MAC,)) for sid in ids]
        calls.append(op.Meta())
        after = await store.execute_many(calls)
        counts = [reply.record.request_count for reply in after[:5]]
        assert counts == [record.request_count + 1 for record in before if record]
        assert after[5] == {}
    finally:
        await store.close()


async def test_a_user_that_may_not_load_scripts_is_told_so(own_server: Servers) -> None:
    server = own_server()
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command("ACL", "SETUSER", "poor", "on", ">pw", "~*", "&*", "+@all", "-script")  # type: ignore[no-untyped-call]
        store = AsyncRedisStore(server.url.replace(f":{server.password}@", "poor:pw@"))
        try:
            async with asyncio.timeout(60):
                with pytest.raises(StoreUnavailableError, match="NOPERM"):
                    await store.execute(op.PeekSession(new_session_id("00")))
                assert await store.execute(op.Meta()) == {}, "the connection serves others"
            evals = admin.info("commandstats")["cmdstat_evalsha"]["calls"]
            assert evals == 1, "what can't be loaded isn't sent again"
            admin.execute_command("ACL", "SETUSER", "poor", "+script")  # type: ignore[no-untyped-call]
            assert (await store.execute(op.PeekSession(new_session_id("00")))).record is None
        finally:
            await store.close()


async def test_a_script_that_is_lost_while_it_is_loaded_is_sent_once_more_only(own_server: Servers) -> None:
    server = own_server()
    store = AsyncRedisStore(server.url)
    try:
        store._sha = lambda name: "0" * 40  # type: ignore[method-assign]  # no script will ever have it
        async with asyncio.timeout(60):
            with pytest.raises(StoreUnavailableError, match="NOSCRIPT"):
                await store.execute(op.PeekSession(new_session_id("00")))
        with redis.Redis.from_url(server.url) as admin:
            assert admin.info("commandstats")["cmdstat_evalsha"]["calls"] == 2
    finally:
        await store.close()


async def test_a_restarted_server_is_met_again_and_what_may_be_repeated_is(own_server: Servers) -> None:
    server = own_server()
    store = AsyncRedisStore(server.url)
    try:
        sid = (await create_many(store, 1))[0]
        server.kill()
        outcomes = await asyncio.gather(
            *[store.execute(op.PeekSession(sid)) for _ in range(20)], return_exceptions=True
        )
        assert all(isinstance(outcome, StoreUnavailableError | OutcomeUnknownError) for outcome in outcomes)
        await asyncio.to_thread(server.restart)
        assert (await store.execute(op.PeekSession(sid))).record is None  # the server keeps nothing
        assert (await store.execute(create(sid))).record is not None
    finally:
        await store.close()


async def test_a_server_that_doesn_t_answer_is_given_up_in_time_and_met_again(own_server: Servers) -> None:
    server = own_server()
    store = AsyncRedisStore(server.url, socket_timeout=0.4)
    pid = server.pid
    assert pid is not None
    try:
        sid = (await create_many(store, 1))[0]
        os.kill(pid, signal.SIGSTOP)
        try:
            begun = asyncio.get_running_loop().time()
            with pytest.raises(StoreError):
                await store.execute(op.SweepStep("00", 10_000, 0, 0))
            assert asyncio.get_running_loop().time() - begun < 4
        finally:
            os.kill(pid, signal.SIGCONT)
        assert (await store.execute(op.PeekSession(sid))).record is not None
    finally:
        await store.close()


async def test_closing_tells_those_who_wait(own_server: Servers) -> None:
    server = own_server()
    store = AsyncRedisStore(server.url)
    await create_many(store, 1)
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        waiting = [asyncio.create_task(store.execute(op.Meta())) for _ in range(20)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await store.close()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert all(isinstance(outcome, StoreError) for outcome in outcomes)


async def test_what_is_no_redis_can_t_be_reached_however_often_it_is_tried(not_redis: str) -> None:
    store = AsyncRedisStore(not_redis)
    try:
        async with asyncio.timeout(60):
            for _ in range(3):
                with pytest.raises(StoreUnavailableError, match="can't be reached"):
                    await store.execute(op.Meta())
            (answer,) = await store.execute_many([op.Meta()])
            assert isinstance(answer, StoreUnavailableError)
            nudges = store.nudges(["v.a"], 0.01)
            assert [await anext(nudges), await anext(nudges)] == ["", ""], "it is tried again"
    finally:
        await store.close()
    assert [nudge async for nudge in nudges] == []


def test_what_is_no_redis_can_t_be_reached_by_threads_either(not_redis: str) -> None:
    store = RedisStore(not_redis)
    try:
        with pytest.raises(StoreUnavailableError, match="can't be reached"):
            store.execute(op.Meta())
        (answer,) = store.execute_many([op.Meta()])
        assert isinstance(answer, StoreUnavailableError)
        nudges = store.nudges(["v.a"], 0.01)
        assert [next(nudges), next(nudges)] == ["", ""], "it is tried again"
    finally:
        store.close()
    assert list(nudges) == []
