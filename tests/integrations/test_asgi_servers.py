"""ASGI sessions under real uvicorn processes: round trips, two nodes behind one address, a store that dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import redis
from asgi_servers import Serve, serve_fixture

__all__ = ["serve_fixture"]

CLIENTS = int(os.environ.get("ASGI_CLIENTS", "20"))
ROUNDS = int(os.environ.get("ASGI_ROUNDS", "20"))
LEAVING = int(os.environ.get("ASGI_LEAVING", "50"))  # requests that their client gives up


class Monitor:
    """What a server is told, as MONITOR shows it, between two of our own marks."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._watch = self._client.monitor()
        self._watch.__enter__()
        self._marks = 0

    def since_mark(self) -> list[str]:
        """The commands of others since the last call."""
        self._marks += 1
        mark = f"mark-{self._marks}"
        self._client.echo(mark)
        seen: list[str] = []
        while True:
            told = self._watch.next_command()
            if told["client_type"] == "lua":
                continue  # what a script itself calls travels nowhere
            command = str(told["command"])
            if command == f"ECHO {mark}":
                return seen
            if not command.startswith("ECHO mark-"):
                seen.append(command)

    def close(self) -> None:
        """Stops watching."""
        self._watch.__exit__(None, None, None)
        self._client.close()


@pytest.fixture
def monitor() -> Iterator[Callable[[str], Monitor]]:
    with contextlib.ExitStack() as stack:

        def make(url: str) -> Monitor:
            made = Monitor(url)
            stack.callback(made.close)
            return made

        yield make


async def test_round_trips(serve: Serve, own_server: Callable[..., Any], monitor: Callable[[str], Monitor]) -> None:
    store = own_server()
    server = serve(SESSIONSWEEP_REDIS_URL=store.url)
    async with httpx.AsyncClient(base_url=server.url) as web:
        await web.post("/data", json={"x": 1})
        await web.post("/count")  # scripts are loaded now
        watch = monitor(store.url)
        watch.since_mark()
        for method, path, body, trips in (
            ("GET", "/read", None, 1),
            ("GET", "/untouched", None, 1),
            ("POST", "/data", {"x": 1}, 1),  # the same value: nothing changed
            ("POST", "/data", {"x": 2}, 2),
            ("POST", "/count", None, 2),
            ("GET", "/sessionsweep/time-left", None, 1),
        ):
            answer = await web.request(method, path, json=body)
            assert answer.status_code == 200, answer.text
            commands = watch.since_mark()
            assert len(commands) == trips, (path, commands)
            assert all(command.startswith("EVALSHA") for command in commands)
        secret = web.cookies["sessionsweep"].split(".")[1]
        async with httpx.AsyncClient(base_url=server.url) as stranger:
            await asyncio.gather(stranger.get("/read"), stranger.get("/untouched"), stranger.post("/data", json={}))
            await stranger.get("/read", headers={"Cookie": "sessionsweep=nonsense"})
        assert watch.since_mark() == [], "no token, no question"
        await web.get("/read")
        assert not any(secret in command for command in watch.since_mark())


async def test_strangers_leave_no_key(serve: Serve, redis_url: str, namespace: str) -> None:
    server = serve()

    def keys() -> set[bytes]:
        with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
            return set(client.scan_iter(match=f"{namespace}:*", count=1000)) | set(
                client.scan_iter(match=f"{{{namespace}*", count=1000)
            )

    async with httpx.AsyncClient(base_url=server.url, timeout=60) as web:
        before = keys()
        for batch in range(20):
            anonymous = [web.get("/read") for _ in range(50)]
            made_up = [web.get("/read", headers={"Cookie": f"sessionsweep=00{batch:018d}.{n:043d}"}) for n in range(50)]
            for answer in await asyncio.gather(*anonymous, *made_up):
                assert answer.json()["id"] is None
                assert "Set-Cookie" not in answer.headers
        assert keys() == before
        await web.post("/data", json={"x": 1})
        assert keys() != before, "the search finds a session's keys"


async def test_two_nodes_behind_one_address_mix_nothing_up(serve: Serve) -> None:
    urls = [serve(name).url for name in "ab"]

    async def visit(number: int) -> set[int]:
        pids = set()
        async with httpx.AsyncClient(timeout=60) as web:  # it sends a host's cookies to all of its ports
            for turn in range(ROUNDS):
                url = urls[(number + turn) % 2]
                body = {"owner": number, f"turn{turn}": turn}
                answer = await web.post(f"{url}/data", json=body)
                assert answer.status_code == 200, answer.text
                other = urls[(number + turn + 1) % 2]
                # several of one client at once, on both
                seen = await asyncio.gather(*(web.get(f"{u}/read") for u in (url, other)))
                for one in (one.json() for one in seen):
                    assert one["data"] == {"owner": number, **{f"turn{t}": t for t in range(turn + 1)}}
                    pids.add(one["pid"])
        return pids

    pids = await asyncio.gather(*(visit(number) for number in range(CLIENTS)))
    assert len(set.union(*pids)) == 2


async def test_clients_that_leave_mix_up_no_replies(serve: Serve) -> None:
    server = serve()
    stop = asyncio.Event()
    cancelled = 0

    async def client(number: int) -> dict[str, str]:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as web:
            await web.post(f"/login/user{number % 3}")
            await web.post("/data", json={"owner": number})
            return dict(web.cookies)

    cookies = await asyncio.gather(*(client(number) for number in range(10)))

    async def leaves(number: int) -> None:
        nonlocal cancelled
        while not stop.is_set():
            async with httpx.AsyncClient(base_url=server.url, cookies=cookies[number], timeout=60) as web:
                requests = [asyncio.create_task(web.get(f"/slow/{n}")) for n in range(5)]
                await web.get("/untouched")  # by then the server is at work on the others
                for one in requests:
                    cancelled += one.cancel()
                await asyncio.gather(*requests, return_exceptions=True)

    async def stays(number: int) -> None:
        async with httpx.AsyncClient(base_url=server.url, cookies=cookies[number], timeout=60) as web:
            turn = 0
            while turn < 20 or cancelled < LEAVING:  # the test's own time limit ends it if nobody can leave
                turn += 1
                word = f"{number}-{turn}"
                answer = await web.get(f"/slow/{word}")
                assert answer.json() == {"word": word, "owner": number}

    leaving = [asyncio.create_task(leaves(number)) for number in range(5)]
    await asyncio.gather(*(stays(number) for number in range(5, 10)))
    stop.set()
    await asyncio.gather(*leaving)
    assert "Traceback" not in server.logs(), server.tail()


async def test_a_store_that_dies_under_load(serve: Serve, own_server: Callable[..., Any]) -> None:
    store = own_server()
    server = serve(SESSIONSWEEP_REDIS_URL=store.url, SESSIONSWEEP_SOCKET_TIMEOUT="1")
    statuses: list[int] = []
    stop = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for _ in range(8):
            web = await stack.enter_async_context(httpx.AsyncClient(base_url=server.url, timeout=20))
            assert (await web.post("/data", json={"x": 1})).status_code == 200
            clients.append(web)

        async def load(web: httpx.AsyncClient) -> None:
            while not stop.is_set():
                answer = await web.post("/count")
                assert answer.status_code in (200, 503), answer.text
                if answer.status_code == 503:
                    assert list(answer.json()) == ["error"]
                    assert answer.headers["Retry-After"]
                    assert str(store.port) not in answer.text
                    assert "Set-Cookie" not in answer.headers
                statuses.append(answer.status_code)

        tasks = [asyncio.create_task(load(web)) for web in clients]
        try:
            await until(lambda: statuses.count(200) > 20, tasks)
            store.kill()
            await until(lambda: statuses.count(503) > 20, tasks)
            assert (await clients[0].get("/untouched")).status_code == 200, "a page that needs no session is served"
            store.start()
            seen = len(statuses)
            await until(lambda: 200 in statuses[seen:], tasks)
        finally:
            stop.set()
            await asyncio.gather(*tasks)
    assert "Traceback" not in server.logs(), server.tail()


async def until(condition: Callable[[], bool], tasks: list[asyncio.Task[None]]) -> None:
    """Waits, for as long as the load runs."""

    async def look() -> None:
        while not condition():
            for task in tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.01)

    await asyncio.wait_for(look(), 40)
