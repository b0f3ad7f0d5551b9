"""Litestar and Quart themselves, with the middleware around them: data, files, log-in, WebSockets, lifespan."""

from __future__ import annotations

import ast
import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import litestar_served
import pytest
import quart_served
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from sessionsweep import AsyncSessions, Sessions, Settings
from support.nodes import KEY
from support.processes import LocalProcess

SERVED: dict[str, ModuleType] = {"litestar": litestar_served, "quart": quart_served}
ANONYMOUS = {"data": {}, "user": None, "id": None, "left": None}
#: Each under the server that its documentation names; Quart's own is Hypercorn.
COMMANDS = {
    "litestar": ["uvicorn", "--factory", "litestar_served:make", "--host", "127.0.0.1", "--port", "0"],
    "quart": ["hypercorn", "quart_served:make()", "--bind", "127.0.0.1:0"],
}


@pytest.fixture(params=SERVED)
def framework(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["memory", "redis"])
def options(request: pytest.FixtureRequest, redis_url: str, namespace: str, tmp_path: Path) -> dict[str, Any]:
    url = redis_url if request.param == "redis" else "memory://"
    return {"redis_url": url, "namespace": namespace, "secret_key": KEY, "node": "a", "volumes": f"a={tmp_path / 'a'}"}


@pytest.fixture
async def sessions(options: dict[str, Any]) -> AsyncIterator[AsyncSessions]:
    made = AsyncSessions(Settings(**options))
    yield made
    await made.close()


@pytest.fixture
async def browser(framework: str, sessions: AsyncSessions) -> AsyncIterator[Callable[..., httpx.AsyncClient]]:
    """Clients of one app, which may bring cookies."""
    transport = httpx.ASGITransport(SERVED[framework].make(sessions), raise_app_exceptions=False)
    made: list[httpx.AsyncClient] = []

    def make(**cookies: str) -> httpx.AsyncClient:
        made.append(httpx.AsyncClient(transport=transport, base_url="http://app", cookies=cookies))
        return made[-1]

    yield make
    for one in made:
        await one.aclose()


async def test_its_session_is_ours(browser: Callable[..., httpx.AsyncClient], sessions: AsyncSessions) -> None:
    web, other = browser(), browser()
    for address in ("/untouched", "/read"):
        answer = await web.get(address)
        assert "Set-Cookie" not in answer.headers
    assert answer.json() == ANONYMOUS
    assert (answer.headers["Vary"], answer.headers["Cache-Control"]) == ("Cookie", "private")
    assert (await web.post("/clear")).status_code == 200
    assert (await sessions.stats()).total_sessions_created == 0, "nothing to keep yet"
    answer = await web.post("/set", json={"a": 1, "b": [2]})
    assert answer.headers.get_list("Set-Cookie")[0].endswith("; Path=/; HttpOnly; SameSite=Lax")
    assert len(answer.headers.get_list("Set-Cookie")) == 1, "one cookie"
    assert answer.headers["Cache-Control"] == "private, no-store"
    seen = (await web.get("/read")).json()
    assert (seen["data"], seen["left"] > 800) == ({"a": 1, "b": [2]}, True)
    (record,), _ = await sessions.list()
    assert (record.id, record.data) == (seen["id"], {"a": 1, "b": [2]})
    await web.post("/replace", json={"c": 3})
    assert (await web.get("/read")).json()["data"] == {"c": 3}
    await web.post("/clear")
    after = (await web.get("/read")).json()
    assert (after["data"], after["id"]) == ({}, seen["id"]), "only a log-out ends it"
    assert (await other.get("/read")).json() == ANONYMOUS


async def test_log_in_files_and_log_out(browser: Callable[..., httpx.AsyncClient], sessions: AsyncSessions) -> None:
    web = browser()
    rid = (await web.post("/file", content=b"mine")).json()["id"]
    old = web.cookies["sessionsweep"]
    await web.post("/login/ana")
    assert web.cookies["sessionsweep"] != old
    assert (await web.get(f"/file/{rid}")).content == b"mine"
    assert (await web.get("/read")).json()["user"] == "ana"
    assert (await browser(sessionsweep=old).get("/read")).json() == ANONYMOUS
    last = web.cookies["sessionsweep"]
    assert "Max-Age=0" in (await web.post("/logout")).headers["Set-Cookie"]
    assert "sessionsweep" not in web.cookies
    assert (await browser(sessionsweep=last).get("/read")).json() == ANONYMOUS
    assert (await sessions.stats()).active_sessions == 0


async def test_errors_of_ours_have_their_status(browser: Callable[..., httpx.AsyncClient]) -> None:
    web = browser()
    answer = await web.get("/file/nothing")
    assert (answer.status_code, list(answer.json())) == (404, ["error"])
    assert (await web.get("/events")).status_code == 401


async def test_events(browser: Callable[..., httpx.AsyncClient]) -> None:
    web = browser()
    await web.post("/set", json={"a": 1})
    answer = await web.get("/events")
    assert answer.text == "data: one\n\ndata: two\n\n"
    assert answer.headers["Content-Type"].startswith("text/event-stream")


async def test_the_middlewares_own_addresses(browser: Callable[..., httpx.AsyncClient]) -> None:
    web = browser()
    assert (await web.get("/sessionsweep/time-left")).json() == {"seconds": None}
    await web.post("/set", json={"a": 1})
    assert (await web.post("/sessionsweep/extend")).json()["seconds"] > 800


async def test_quarts_flashes_show_once_and_its_permanent_keeps_nothing(sessions: AsyncSessions) -> None:
    app = quart_served.make(sessions)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as web:
        assert (await web.get("/flashes")).json() == []
        assert (await sessions.stats()).total_sessions_created == 0
        answer = await web.post("/flash")
        assert "Expires" not in answer.headers["Set-Cookie"]
        assert (await web.get("/flashes")).json() == [["note", "hello"]]
        assert (await web.get("/flashes")).json() == []
        assert (await web.get("/none")).status_code == 500, "a path without a session refuses its use"


# under their servers


class Server(LocalProcess):
    """An ASGI server on a port that it chose itself."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.wait_for_log(re.compile(r"[Rr]unning on (http://[\d.:]+)"), after=self._log_start)[1]


@pytest.fixture
def server(framework: str, redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Server]:
    here = Path(__file__).parent
    env = {
        "PYTHONPATH": os.pathsep.join((str(here), str(here.parent), os.environ.get("PYTHONPATH", ""))),
        "SESSIONSWEEP_REDIS_URL": redis_url,
        "SESSIONSWEEP_NAMESPACE": namespace,
        "SESSIONSWEEP_SECRET_KEY": KEY,
        "SESSIONSWEEP_NODE": "a",
        "SESSIONSWEEP_SWEEPER": "in-process",
    }
    with ExitStack() as stack:
        argv = ["python", "-m", *COMMANDS[framework]]
        made = Server(framework, argv, tmp_path, env=env, ready_when=re.compile(r"unning on http"), ready_timeout=60)
        yield stack.enter_context(made)


async def test_a_websocket_is_closed_with_its_session(
    framework: str, server: Server, redis_url: str, namespace: str
) -> None:
    operator = Sessions(Settings(redis_url=redis_url, namespace=namespace, secret_key=KEY))
    async with httpx.AsyncClient(base_url=server.url) as web:
        await web.post("/set", json={"a": 1})
        session_id = (await web.get("/read")).json()["id"]
        cookie = {"Cookie": f"sessionsweep={web.cookies['sessionsweep']}"}
    address = server.url.replace("http", "ws") + "/ws"
    with pytest.raises(InvalidStatus) as refused:
        await connect(address, proxy=None)
    assert refused.value.response.status_code == {"litestar": 403, "quart": 401}[framework]
    async with AsyncExitStack() as stack:
        left, echo, silent = [
            await stack.enter_async_context(connect(url, additional_headers=cookie, proxy=None))
            for url in (address, address, f"{address}-plain")
        ]
        for one in (left, echo, silent):
            assert ast.literal_eval(str(await one.recv())) == {"a": 1}
        await left.send("hello")
        assert await left.recv() == "hello"
        await left.close()
        assert operator.end(session_id)
        for one in (echo, silent):
            await asyncio.wait_for(one.wait_closed(), 60)
            assert (one.close_code, one.close_reason) == (4401, "session ended: admin")
    server.stop()
    for words in ("Unexpected ASGI message", "multiple times", "Exception in ASGI application"):
        assert words not in server.logs(), server.tail()
    operator.close()


async def test_the_lifespan_starts_and_stops_what_runs_beside_it(server: Server) -> None:
    async with httpx.AsyncClient(base_url=server.url) as web:
        assert (await web.get("/untouched")).status_code == 200
        await web.post("/set", json={"a": 1})
    server.stop()
    assert "Traceback" not in server.logs(), server.tail()
