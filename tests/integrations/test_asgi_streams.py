"""WebSockets and event streams of ASGI apps: refused without a session, closed when it ends on any node, given back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import redis
from asgi_servers import Serve, Server, serve_fixture
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sessionsweep import AsyncSessions, Client, LimitReachedError, Sessions, Settings
from sessionsweep.engine.silence import CONFIRM, Silence
from sessionsweep.engine.sweep import Sweep
from sessionsweep.engine.trust import Trust
from sessionsweep.engine.upkeep import PROCESS_SILENCE, Upkeep
from sessionsweep.integrations.asgi import RequestSession, session_stream
from sessionsweep.model.books import imbalance
from sessionsweep.sessions.view import Resource
from sessionsweep.store import operations as op
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.nodes import KEY
from support.processes import wait_until

__all__ = ["serve_fixture"]

SOCKETS = int(os.environ.get("ASGI_SOCKETS", "40"))
MEASURING = SOCKETS >= 200  # with the intervals that a deployment has; `pytest -s` shows the times


@pytest.fixture
def operator(redis_url: str, namespace: str) -> AsyncIterator[Sessions]:
    """Another process of the deployment: it ends, sweeps, looks."""
    made = Sessions(Settings(redis_url=redis_url, namespace=namespace, secret_key=KEY, node="operator"))
    yield made  # type: ignore[misc]
    made.close()


def books(sessions: Sessions) -> dict[str, int]:
    counters = dict(sessions.store.execute(op.Counters("00")))
    assert imbalance(counters) == 0
    return counters


def streams_of(sessions: Sessions) -> list[Resource]:
    """All streams that are registered."""
    return [one for session in sessions.list()[0] for one in session.resources() if one.kind == "stream"]


async def soon(condition: Callable[[], object], what: str) -> None:
    await asyncio.to_thread(wait_until, condition, 20, what)


async def signed_in(url: str, **data: Any) -> dict[str, str]:
    """The cookie header of a new session."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as web:
        await web.post("/data", json={"x": 1, **data})
        return {"Cookie": f"sessionsweep={web.cookies['sessionsweep']}"}


def socket(server: Server, headers: dict[str, str] | None = None, path: str = "/ws") -> Any:
    return connect(server.url.replace("http", "ws") + path, additional_headers=headers, open_timeout=60, proxy=None)


async def closing(websocket: ClientConnection) -> tuple[int, str]:
    """Waits for the close frame: its code and reason."""
    await asyncio.wait_for(websocket.wait_closed(), 60)
    return websocket.close_code or 0, websocket.close_reason or ""


async def test_a_websocket_without_a_session_is_refused_before_it_is_accepted(serve: Serve) -> None:
    server = serve()
    ended = await signed_in(server.url)
    async with httpx.AsyncClient(base_url=server.url, headers=ended) as web:
        await web.post("/logout")
    for headers in (None, {"Cookie": "sessionsweep=nonsense"}, ended):
        with pytest.raises(InvalidStatus) as refused:
            await socket(server, headers)
        assert refused.value.response.status_code == 401
        assert list(json.loads(refused.value.response.body or b"{}")) == ["error"]
    async with socket(server, path="/ws-late") as late:
        assert (await closing(late))[0] == 4401
    assert "Traceback" not in server.logs(), server.tail()


async def test_a_websocket_closes_when_another_node_ends_its_session(serve: Serve, operator: Sessions) -> None:
    here, there = serve("a"), serve("b")
    mine, other = await signed_in(here.url), await signed_in(here.url)
    async with socket(here, mine) as one, socket(there, mine) as two, socket(here, other) as untouched:
        session_id = str(await one.recv())
        assert await two.recv() == session_id
        async with socket(here, mine, "/ws-late") as late:
            assert await late.recv() == "in"
            async with httpx.AsyncClient(base_url=there.url, headers=mine) as web:
                assert (await web.post("/logout")).status_code == 200
            assert await closing(late) == (4999, "session ended: logout")
        assert await closing(one) == (4401, "session ended: logout")
        assert await closing(two) == (4401, "session ended: logout")
        await untouched.recv()
        await untouched.send("hello")
        assert await untouched.recv() == "hello"
        await soon(lambda: books(operator)["owed"] == 0, "all are acknowledged")
        assert (books(operator)["deleted"], books(operator)["active"]) == (3, 1)
    await soon(lambda: books(operator)["active"] == 0, "a client that leaves gives its stream back")
    for server in (here, there):
        assert "Traceback" not in server.logs(), server.tail()


async def test_only_what_the_app_says_counts_as_activity(serve: Serve, operator: Sessions) -> None:
    server = serve()
    async with socket(server, await signed_in(server.url)) as websocket:
        session_id = str(await websocket.recv())

        def last() -> Any:
            session = operator.get(session_id)
            assert session is not None
            return session.last_activity

        before = last()
        await websocket.send("hello")
        await websocket.recv()
        await (await websocket.ping())
        assert last() == before
        await websocket.send("touch")
        await websocket.recv()
        assert last() > before


async def test_a_bug_in_a_websocket_gives_its_stream_back(serve: Serve, operator: Sessions) -> None:
    server = serve()
    async with socket(server, await signed_in(server.url)) as websocket:
        await websocket.recv()
        await websocket.send("fail")
        assert (await closing(websocket))[0] in (1011, 1006)
    await soon(lambda: books(operator)["active"] == 0, "it is given back")


async def test_too_many_streams_are_refused(serve: Serve) -> None:
    server = serve(SESSIONSWEEP_MAX_STREAMS_PER_SESSION="1")
    headers = await signed_in(server.url)
    async with socket(server, headers) as websocket:
        await websocket.recv()
        with pytest.raises(InvalidStatus) as refused:
            await socket(server, headers)
        assert refused.value.response.status_code == 429
        async with httpx.AsyncClient(base_url=server.url, headers=headers) as web:
            answer = await web.get("/events/1")
            assert (answer.status_code, answer.json()["limit"]) == (429, "MAX_STREAMS_PER_SESSION")
        async with socket(server, headers, "/ws-late") as late:
            assert (await closing(late))[0] == 1008


async def test_a_client_that_comes_right_back_finds_its_place(serve: Serve, operator: Sessions) -> None:
    server = serve(SESSIONSWEEP_MAX_STREAMS_PER_SESSION="1")
    headers = await signed_in(server.url)

    async def come_back() -> ClientConnection:
        while True:
            try:
                return await socket(server, headers, "/ws-lingers")  # type: ignore[no-any-return]
            except InvalidStatus:  # the server hasn't noticed yet that it left
                await asyncio.sleep(0.02)

    async with socket(server, headers, "/ws-lingers") as first:
        place = await first.recv()
    with pytest.raises(InvalidStatus) as refused:  # it is kept, and for this purpose
        await socket(server, headers)
    assert refused.value.response.status_code == 429
    async with await asyncio.wait_for(come_back(), 60) as second:
        assert await second.recv() == place
    assert books(operator)["reg"] == 1
    (session,) = operator.list()[0]
    operator.end(session.id)
    await soon(lambda: books(operator)["owed"] == 0, "nobody waits for who doesn't come back")


async def test_a_decorated_endpoint_is_a_stream(serve: Serve, operator: Sessions) -> None:
    server = serve(SESSIONSWEEP_MAX_STREAMS_PER_SESSION="2")
    with pytest.raises(InvalidStatus) as refused:
        await socket(server, path="/ws-decorated")
    assert refused.value.response.status_code == 401
    headers = await signed_in(server.url)
    async with (
        httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60) as web,
        socket(server, headers, "/ws-decorated?greeting=hi") as websocket,
    ):
        assert await websocket.recv() == "hi"
        (session,) = operator.list()[0]
        poll = asyncio.create_task(web.get("/poll"))
        await asyncio.to_thread(server.wait_for_log, "polling")
        assert sorted(one.purpose for one in await asyncio.to_thread(streams_of, operator)) == ["decorated", "poll"]
        refusal = await web.get("/poll")
        assert (refusal.status_code, refusal.json()["limit"]) == (429, "MAX_STREAMS_PER_SESSION")
        operator.end(session.id, reason="logout")
        assert await closing(websocket) == (4998, "session ended: logout")
        assert (await poll).status_code == 401
    await soon(lambda: books(operator)["owed"] == 0, "both are acknowledged")
    assert "Traceback" not in server.logs(), server.tail()


async def test_a_decorated_endpoint_must_take_its_connection() -> None:
    @session_stream()
    async def endpoint(name: str) -> None:
        raise AssertionError(name)

    with pytest.raises(TypeError, match="WebSocket or Request"):
        await endpoint("x")


def ended_at(sessions: Sessions, session_id: str) -> float:
    """When it ended, in seconds of the server's clock, which is this machine's."""
    tombstone = sessions.store.execute(op.PeekSession(session_id)).tombstone
    assert tombstone is not None
    return tombstone.ended / 1000


def without_channels(server: EmbeddedServer) -> str:
    """The server's URL for a user who can neither subscribe nor publish."""
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "deaf", "on", ">deaf", "~*", "resetchannels", "+@all")
    return server.url.replace(f":{server.password}@", "deaf:deaf@")


@pytest.mark.parametrize("nudged", [True, False], ids=["pubsub", "pubsub-cut"])
async def test_a_sweep_ends_half_and_the_others_never_notice(
    serve: Serve, own_server: Callable[..., EmbeddedServer], namespace: str, nudged: bool
) -> None:
    redis_server = own_server()
    env = {"SESSIONSWEEP_REDIS_URL": redis_server.url if nudged else without_channels(redis_server)}
    if not MEASURING:
        env["SESSIONSWEEP_CLEANUP_INTERVAL"] = "1"  # s between two looks at the queue
    servers = [serve(name, **env) for name in "ab"]
    operator = Sessions(Settings(redis_url=redis_server.url, namespace=namespace, secret_key=KEY, node="operator"))
    sweep = Sweep(operator.core, operator.store, Trust(operator.core, operator.store))
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(operator.close)
        due, due_ids, lively = [], [], []
        for number in range(SOCKETS):
            server = servers[number % 2]
            headers = await signed_in(server.url)
            websocket = await stack.enter_async_context(socket(server, headers))
            session_id = str(await websocket.recv())
            (due if number % 4 < 2 else lively).append(websocket)
            if number % 4 < 2:
                due_ids.append(session_id)
                async with httpx.AsyncClient(base_url=server.url, headers=headers) as web:
                    await web.post("/idle/0.2")
        assert books(operator)["active"] == SOCKETS
        for server in servers:
            if nudged:
                assert "hears no nudges" not in server.logs()
            else:
                await asyncio.to_thread(server.wait_for_log, "hears no nudges")

        def all_ended() -> bool:
            sweep.run_once()
            return operator.stats().active_sessions == SOCKETS - len(due)

        async def closed(one: ClientConnection) -> tuple[tuple[int, str], float]:
            return await closing(one), time.time()

        waiting = [asyncio.create_task(closed(one)) for one in due]
        await soon(all_ended, "the sweep has ended half")
        seen = await asyncio.gather(*waiting)
        assert {how for how, _ in seen} == {(4401, "session ended: idle")}
        ended = [ended_at(operator, one) for one in due_ids]
        late = sorted(at - then for (_, at), then in zip(seen, ended, strict=True))
        print(f"{len(due)} closed after their ends: median {late[len(late) // 2]:.2f} s, slowest {late[-1]:.2f} s")
        for number, one in enumerate(lively):
            await one.send(f"still here {number}")
            assert await one.recv() == f"still here {number}"
        await soon(lambda: books(operator)["owed"] == 0, "all are acknowledged")
        assert (books(operator)["deleted"], books(operator)["active"]) == (len(due), len(lively))

        # a node dies: the other's sockets go on, the dead one's are registered no longer
        servers[0].kill()
        killed = time.monotonic()
        if not MEASURING:
            process = next(name for name in operator.store.execute(op.Table("p")) if name.startswith("a."))
            silent_since = operator.store.execute(op.Facts()).now - PROCESS_SILENCE - 1000  # as if it were that old
            operator.store.execute(op.TablePut("p", process, str(silent_since)))
        looks = time.monotonic if MEASURING else itertools.count(0, CONFIRM).__next__
        upkeep, on_dead = Upkeep(operator.core, operator.store, silence=Silence(looks)), len(lively) // 2

        def given_up() -> bool:
            upkeep.run_once()
            return books(operator)["active"] == len(lively) - on_dead

        await asyncio.to_thread(wait_until, given_up, 90, "the dead node's streams are given up")
        print(f"{on_dead} streams of a killed node were given up {time.monotonic() - killed:.2f} s later")
        listed, _ = operator.list(limit=1000)
        assert sum(one.stream_count for one in listed) == len(lively) - on_dead
        for one in lively:
            with contextlib.suppress(ConnectionClosed):
                await one.send("ping")
        alive = [one for one in lively if one.close_code is None and one.remote_address[1] == _port(servers[1])]
        assert len(alive) == len(lively) - on_dead
        for one in alive:
            assert await one.recv() == "ping"


def _port(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


# server-sent events


async def lines_until(lines: AsyncIterator[str], last: str) -> list[str]:
    """Lines up to one that begins so."""
    seen: list[str] = []
    async with asyncio.timeout(60):
        async for line in lines:
            seen.append(line)
            if line.startswith(last):
                return seen
    raise AssertionError(seen)


async def test_events_end_with_the_session(serve: Serve, operator: Sessions) -> None:
    server = serve()
    headers = await signed_in(server.url)
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60) as web:
        session_id = (await web.get("/read")).json()["id"]
        async with web.stream("GET", "/events/2") as response:
            assert response.headers["Content-Type"].startswith("text/event-stream")
            assert "private" in response.headers["Cache-Control"]
            lines = response.aiter_lines()
            seen = await lines_until(lines, "data: second line")
            assert seen == ["event: tick", 'data: {"n": 1}', "", "data: text 2", "data: second line"]
            assert books(operator)["active"] == 1
            operator.end(session_id)
            assert await lines_until(lines, "data: admin") == ["", "event: session-ended", "data: admin"]
            assert [line async for line in lines] == [""], "and the response with them"
        await soon(lambda: books(operator)["owed"] == 0, "it is acknowledged")
        assert "source closed" in server.logs()
        assert (await web.get("/events/1")).status_code == 401
    assert "Traceback" not in server.logs(), server.tail()


async def test_a_client_that_leaves_stops_the_source(serve: Serve, operator: Sessions) -> None:
    server = serve()
    headers = await signed_in(server.url)
    async with (
        httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60) as web,
        web.stream("GET", "/events/0") as response,
    ):
        await lines_until(response.aiter_lines(), "event: tick")
    await soon(lambda: books(operator)["active"] == 0, "its stream is given back")
    await asyncio.to_thread(server.wait_for_log, "source closed")


async def test_a_source_that_ends_ends_the_response(serve: Serve, operator: Sessions) -> None:
    server = serve()
    async with httpx.AsyncClient(base_url=server.url, headers=await signed_in(server.url), timeout=60) as web:
        assert (await web.get("/short-events")).content == b"data: raw\n\n"
    await soon(lambda: books(operator)["active"] == 0, "its stream is given back")


@pytest.fixture(params=["redis", "memory"])
async def request_session(
    request: pytest.FixtureRequest, redis_url: str, namespace: str
) -> AsyncIterator[RequestSession]:
    url = redis_url if request.param == "redis" else "memory://"
    sessions = AsyncSessions(Settings(redis_url=url, namespace=namespace, secret_key=KEY, max_streams_per_session=1))
    session, _ = await sessions.create()
    yield RequestSession(sessions, Client(), session)
    await sessions.close()


async def test_silence_is_filled_and_renews_nothing(request_session: RequestSession) -> None:
    more = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        yield "one"
        await more.wait()
        yield None
        yield "two"

    before = request_session.existing().last_activity
    stream = request_session.events(source(), keep_alive=0.01)
    assert await anext(stream) == b"data: one\n\n"
    assert [await anext(stream) for _ in range(3)] == [b": keep-alive\n\n"] * 3
    more.set()
    seen = [one async for one in stream]
    assert [one for one in seen if one != b": keep-alive\n\n"] == [b"data: two\n\n"]
    session = await request_session.sessions.attach(str(request_session.id))
    assert (session.last_activity, session.stream_count) == (before, 0)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_an_error_of_the_source_is_the_apps_own(request_session: RequestSession) -> None:
    async def source() -> AsyncIterator[str]:
        yield "one"
        raise ZeroDivisionError

    stream = request_session.events(source())
    await anext(stream)
    with pytest.raises(ZeroDivisionError):
        await anext(stream)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert (await request_session.sessions.attach(str(request_session.id))).stream_count == 0


async def test_the_end_overtakes_an_event_that_nobody_takes(request_session: RequestSession) -> None:
    closed = []

    async def source() -> AsyncIterator[str]:
        try:
            while True:
                yield "more"
        finally:
            closed.append(True)

    stream = request_session.events(source())
    assert await anext(stream) == b"data: more\n\n"
    await request_session.existing().end()
    await soon(lambda: closed, "the source is closed although its event waits")
    assert [one async for one in stream] == [b"event: session-ended\ndata: logout\n\n"]


async def test_a_stream_that_is_refused_or_never_begun_leaves_nothing(request_session: RequestSession) -> None:
    closed = []

    async def source() -> AsyncIterator[str]:
        try:
            yield "more"
        finally:
            closed.append(True)

    async with request_session.stream("the only one"):
        second = request_session.events(source())
        with pytest.raises(LimitReachedError):
            await request_session.finish()
        await request_session.close()
        with pytest.raises(StopAsyncIteration):
            await anext(second)
    never = request_session.events(source())
    await never.aclose()
    begun = request_session.events(source())
    await begun.begin()
    await begun.aclose()
    await begun.aclose()
    session = await request_session.sessions.attach(str(request_session.id))
    assert (session.stream_count, request_session.sessions.streams.mine()) == (0, [])
