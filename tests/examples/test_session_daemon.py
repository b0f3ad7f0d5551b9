"""The WebSocket daemon as a real process: messages keep a session alive, silence and an end elsewhere close it."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from sessionsweep import AsyncSessions, Sessions, Settings
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.nodes import KEY

Start = Callable[..., str]


async def say(connection: ClientConnection, **message: Any) -> dict[str, Any]:
    await connection.send(json.dumps(message))
    answer: dict[str, Any] = json.loads(await asyncio.wait_for(connection.recv(), 60))
    return answer


async def closing(connection: ClientConnection) -> tuple[int, str]:
    """Code and reason with which the daemon closes it."""

    async def drain() -> None:
        while True:
            await asyncio.wait_for(connection.recv(), 60)

    with pytest.raises(ConnectionClosed) as closed:
        await drain()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


async def test_silence_ends_a_session_and_messages_keep_one(start_daemon: Start) -> None:
    url = start_daemon(SESSION_TIMEOUT_SECS="1.5", SESSION_CLEANUP_INTERVAL="0.2")
    async with connect(url) as silent, connect(url) as busy:
        assert await say(silent, session_id="silent") == {"op": "welcome", "session_id": "silent"}
        await say(busy, session_id="busy")
        assert (await say(busy, op="list"))["ids"] == ["busy", "silent"]
        over = asyncio.create_task(closing(silent))
        while not over.done():  # its messages are its activity
            assert (await say(busy, op="echo"))["op"] == "echo"
            await asyncio.wait([over], timeout=0.1)
        assert over.result() == (4401, "session over: idle")
        assert (await say(busy, op="list"))["ids"] == ["busy"]


async def test_two_daemons_share_their_sessions_and_close_each_other_s_connections(
    start_daemon: Start, redis_url: str, namespace: str
) -> None:
    one, other = (start_daemon(SESSIONSWEEP_REDIS_URL=redis_url) for _ in range(2))
    async with connect(one) as first, connect(other) as second:
        await say(first, session_id="a")
        await say(second, session_id="b")
        assert (await say(first, op="list"))["ids"] == ["a", "b"]
        sessions = Sessions(Settings(redis_url=redis_url, namespace=namespace, secret_key=KEY))
        assert await asyncio.to_thread(sessions.end, key="a", reason="logout")
        assert await closing(first) == (4401, "session over: logout")
        assert (await say(second, op="list"))["ids"] == ["b"]
        sessions.close()


async def test_one_more_than_allowed_is_refused_and_who_left_may_come_back(start_daemon: Start) -> None:
    url = start_daemon(SESSION_MAX_CONCURRENT="1")
    async with connect(url) as first:
        await say(first, session_id="one")
        async with connect(url) as second:
            await second.send(json.dumps({"session_id": "two"}))
            assert await closing(second) == (1013, "MAX_SESSIONS reached")
    async with connect(url) as again:
        assert (await say(again, session_id="one"))["op"] == "welcome"


@pytest.mark.parametrize("words", ["no json", "[]", "{}", '{"session_id": ""}', '{"session_id": 7}'])
async def test_what_is_no_hello_is_refused(start_daemon: Start, words: str) -> None:
    async with connect(start_daemon()) as connection:
        await connection.send(words)
        assert (await closing(connection))[0] == 1007


async def test_two_connections_of_one_session_go_on_without_each_other(start_daemon: Start) -> None:
    url = start_daemon()
    async with connect(url) as first:
        await say(first, session_id="one")
        async with connect(url) as second:
            await say(second, session_id="one")
        assert (await say(first, op="list"))["ids"] == ["one"]


async def test_a_server_that_is_away_sends_clients_away_for_a_while(
    start_daemon: Start, own_server: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    server = own_server(data_dir=tmp_path / "redis")
    url = start_daemon(SESSIONSWEEP_REDIS_URL=server.url)
    async with connect(url) as client:
        await say(client, session_id="one")
        server.kill()
        await client.send(json.dumps({"op": "echo"}))
        assert await closing(client) == (1013, "try again later")
    server.start()
    async with connect(url) as client:
        assert (await say(client, session_id="one"))["op"] == "welcome"


async def test_an_id_stays_known_as_long_as_one_of_its_connections_is_open() -> None:
    from session_daemon.manager import SessionManager, settings_from

    sessions = AsyncSessions(settings_from({}))
    manager = SessionManager(sessions)
    first = await manager.ensure("one")
    second = await manager.ensure("one")
    del second
    gc.collect()
    await manager.update_activity("one")
    await first.end()
    again = await manager.ensure("one")
    assert again.id != first.id, "who comes back after the end gets a new session"
    await manager.update_activity("one")
    await sessions.close()
