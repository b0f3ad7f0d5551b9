"""Event streams and WebSockets in Django: refused before they begin, closed when their session ends, given back."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from support import django_site

django_site.ready()

import django_streamed  # noqa: E402
from django.db import connections  # noqa: E402
from django.test import AsyncClient, Client, RequestFactory, override_settings  # noqa: E402

from sessionsweep import Sessions, Settings  # noqa: E402
from sessionsweep.integrations.django import configured  # noqa: E402
from sessionsweep.integrations.django.streams import aevents, events  # noqa: E402
from sessionsweep.integrations.events import KEEP_ALIVE  # noqa: E402
from support.django_deployment import Deployment  # noqa: E402
from support.nodes import KEY  # noqa: E402
from support.processes import LocalProcess, wait_until  # noqa: E402

HELLO = b"data: hello\n\n"
ENDED = b"event: session-ended\ndata: admin\n\n"


@pytest.fixture(params=["memory", "redis"])
def deployment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    options: dict[str, Any] = {"max_streams_per_session": 2}
    if request.param == "redis":
        options |= {"url": request.getfixturevalue("redis_url"), "namespace": request.getfixturevalue("namespace")}
    made = Deployment(**options)
    monkeypatch.setattr(configured, "_current", made.configured)
    with override_settings(**django_streamed.SITE):
        yield made
    for _ in range(5):
        django_streamed.news.put(StopIteration)  # threads whose clients have left
    made.sessions.close()
    django_streamed.news = type(django_streamed.news)()


@pytest.fixture
def client(deployment: Deployment) -> Client:
    return Client(raise_request_exception=False)


@pytest.fixture
async def aclient(deployment: Deployment) -> AsyncIterator[AsyncClient]:
    yield AsyncClient(raise_request_exception=False)
    await deployment.configured.async_sessions.close()


def streams(deployment: Deployment, session_id: str) -> list[str]:
    """Purposes of the session's open streams."""
    session = deployment.sessions.get(session_id)
    assert session is not None
    return [one.purpose for one in session.resources()]


# under WSGI


def test_events_end_with_the_session(client: Client, deployment: Deployment) -> None:
    session_id = client.get("/begin").json()["id"]
    answer = client.get("/stream")
    body = iter(answer.streaming_content)
    assert next(body) == HELLO
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert (answer.headers["Cache-Control"], answer.headers["Vary"]) == ("private, no-store", "Cookie")
    django_streamed.news.put({"event": "half", "data": 0.5})
    assert next(body) == b"event: half\ndata: 0.5\n\n"
    assert streams(deployment, session_id) == ["news"]
    deployment.sessions.end(session_id, reason="admin")
    assert list(body) == [ENDED]
    answer.close()
    wait_until(lambda: deployment.sessions.stats().resources["owed"] == 0, 20, "it is acknowledged")


def test_a_generator_view_is_a_stream(client: Client, deployment: Deployment) -> None:
    session_id = client.get("/begin").json()["id"]
    answer = client.get("/counting/2")
    assert streams(deployment, session_id) == ["counting"]
    assert b"".join(answer.streaming_content) == b"data: 0\n\ndata: 1\n\n"
    assert streams(deployment, session_id) == []


def test_who_may_not_have_a_stream_is_told_before_it_begins(client: Client, deployment: Deployment) -> None:
    assert client.get("/stream").status_code == 401
    session_id = client.get("/begin").json()["id"]
    answers = [client.get("/stream") for _ in range(2)]
    refused = client.get("/stream")
    assert (refused.status_code, refused.json()["limit"]) == (429, "MAX_STREAMS_PER_SESSION")
    for answer in answers:
        answer.close()
    assert streams(deployment, session_id) == []


def test_what_nobody_reads_holds_no_place(client: Client, deployment: Deployment) -> None:
    session_id = client.get("/begin").json()["id"]
    head = client.head("/stream")
    assert (head.status_code, head.headers["Content-Type"]) == (200, "text/event-stream")
    for _ in range(3):
        assert client.get("/broken").status_code == 500
        client.exc_info = None
        gc.collect()
        wait_until(lambda: streams(deployment, session_id) == [], what="the place is given back")


def test_a_client_that_comes_right_back_finds_its_place(client: Client, deployment: Deployment) -> None:
    session_id = client.get("/begin").json()["id"]
    session = deployment.sessions.attach(session_id)
    places = set()
    for _ in range(2):
        answer = client.get("/stream?linger=60")
        answer.close()
        places |= {one.id for one in session.resources()}
    assert len(places) == 1


def test_a_sources_database_connections_are_closed(client: Client, deployment: Deployment) -> None:
    client.get("/begin")
    used = []

    def source() -> Iterator[str]:
        connections["default"].ensure_connection()
        used.append(connections["default"])
        yield "one"

    request = RequestFactory().get("/")
    request.session = client.session
    answer = events(request, source())
    assert list(answer) == [b"data: one\n\n"]
    answer.close()
    assert used[0] is not connections["default"]
    assert used[0].connection is None


# under ASGI


async def test_asynchronous_events_end_with_the_session(aclient: AsyncClient, deployment: Deployment) -> None:
    session_id = (await aclient.get("/begin")).json()["id"]
    answer = await aclient.get("/astream")
    body = aiter(answer.streaming_content)
    assert await anext(body) == HELLO
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert (answer.headers["Cache-Control"], answer.headers["Vary"]) == ("private, no-store", "Cookie")
    assert streams(deployment, session_id) == ["news"]
    deployment.sessions.end(session_id, reason="admin")
    assert [one async for one in body] == [ENDED]
    await asyncio.to_thread(
        wait_until, lambda: deployment.sessions.stats().resources["owed"] == 0, 20, "it is acknowledged"
    )


async def test_an_asynchronous_generator_view_is_a_stream(aclient: AsyncClient, deployment: Deployment) -> None:
    session_id = (await aclient.get("/begin")).json()["id"]
    answer = await aclient.get("/acounting/2")
    seen = b"".join([one async for one in answer.streaming_content])
    assert seen == b"data: 0\n\ndata: 1\n\n"
    assert streams(deployment, session_id) == []


async def test_who_may_not_have_one_is_told_before_it_begins(aclient: AsyncClient, deployment: Deployment) -> None:
    assert (await aclient.get("/astream")).status_code == 401
    session_id = (await aclient.get("/begin")).json()["id"]
    answers = [await aclient.get("/astream") for _ in range(2)]
    refused = await aclient.get("/astream")
    assert (refused.status_code, refused.json()["limit"]) == (429, "MAX_STREAMS_PER_SESSION")
    for answer in answers:
        answer.close()
    await none_left(deployment, session_id)


async def none_left(deployment: Deployment, session_id: str) -> None:
    await asyncio.to_thread(wait_until, lambda: streams(deployment, session_id) == [], 20, "it is given back")


async def test_an_asynchronous_stream_that_nobody_reads_holds_no_place(
    aclient: AsyncClient, deployment: Deployment
) -> None:
    session_id = (await aclient.get("/begin")).json()["id"]
    head = RequestFactory().head("/")
    head.session, head.scope = aclient.session, {}
    answer = await aevents(head, django_streamed._anews())
    assert (answer.headers["Content-Type"], answer.streaming) == ("text/event-stream", False)
    for _ in range(3):
        assert (await aclient.get("/abroken")).status_code == 500
        aclient.exc_info = None
        gc.collect()
        await none_left(deployment, session_id)


async def test_one_whose_client_leaves_while_it_begins_holds_no_place(
    aclient: AsyncClient, deployment: Deployment
) -> None:
    session_id = (await aclient.get("/begin")).json()["id"]
    session = aclient.session
    request = RequestFactory().get("/")
    request.session, request.scope = session, {}
    for steps in range(12):
        view = asyncio.create_task(aevents(request, django_streamed._anews()))
        for _ in range(steps):
            await asyncio.sleep(0)
        view.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            (await view).close()
        del view
        gc.collect()
    await none_left(deployment, session_id)


async def test_what_django_would_collect_first_is_refused(client: Client, aclient: AsyncClient) -> None:
    await asyncio.to_thread(client.get, "/begin")
    request = RequestFactory().get("/")
    with pytest.raises(RuntimeError, match="call events"):
        await aevents(request, django_streamed._anews())
    request.scope = {}
    with pytest.raises(RuntimeError, match="await aevents"):
        events(request, iter(()))


# served


class Server(LocalProcess):
    """One server process, on a port that it chose itself."""

    @property
    def url(self) -> str:
        return self.wait_for_log(re.compile(r"(?:Listening at:|running on) (http://\S+)"))[1]


Serve = Callable[[str], Server]
GUNICORN = ["python", "-m", "gunicorn", "-b", "127.0.0.1:0", "--threads", "4", "django_streamed:wsgi"]
UVICORN = ["python", "-m", "uvicorn", "--host", "127.0.0.1", "--port", "0", "django_streamed:asgi"]


@pytest.fixture
def serve(tmp_path: Path, redis_url: str, namespace: str) -> Iterator[Serve]:
    here = Path(__file__).parent
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SESSIONSWEEP_", "DJANGO_"))}
    env = {
        **kept,
        "PYTHONPATH": os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")]),
        "SESSIONSWEEP_REDIS_URL": redis_url,
        "SESSIONSWEEP_NAMESPACE": namespace,
        "SESSIONSWEEP_SECRET_KEY": KEY,
        "SESSIONSWEEP_MAX_STREAMS_PER_SESSION": "1",
    }
    with contextlib.ExitStack() as stack:

        def make(kind: str) -> Server:
            argv = GUNICORN if kind == "wsgi" else UVICORN
            ready = re.compile(r"Booting worker|Uvicorn running on")
            return stack.enter_context(Server(kind, argv, tmp_path, env=env, ready_when=ready, ready_timeout=60))

        yield make


@pytest.fixture
def operator(redis_url: str, namespace: str) -> Iterator[Sessions]:
    """Another process of the deployment."""
    made = Sessions(Settings(redis_url=redis_url, namespace=namespace, secret_key=KEY, node="operator"))
    yield made
    made.close()


@contextlib.contextmanager
def streaming(server: Server, cookie: str, url: str) -> Iterator[Any]:
    """A response that is being streamed, its connection closed at the end of the block."""
    connection = HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    connection.request("GET", url, headers={"Cookie": cookie})
    answer = connection.getresponse()
    assert answer.status == 200
    yield answer
    answer.close()
    connection.close()


@pytest.mark.parametrize(("kind", "url"), [("wsgi", "/stream"), ("asgi", "/astream")])
def test_a_server_closes_it_from_another_process_and_notices_who_left(
    serve: Serve, operator: Sessions, kind: str, url: str
) -> None:
    server = serve(kind)
    begun = httpx.get(f"{server.url}/begin", timeout=60)
    cookie, session_id = f"sessionid={begun.cookies['sessionid']}", begun.json()["id"]
    with streaming(server, cookie, f"{url}?keep_alive=0.02") as leaving:
        assert leaving.read(len(HELLO)) == HELLO
        assert leaving.read(len(KEEP_ALIVE)) == KEEP_ALIVE
        refused = httpx.get(server.url + url, headers={"Cookie": cookie}, timeout=60)
        assert (refused.status_code, refused.json()["limit"]) == (429, "MAX_STREAMS_PER_SESSION")
    wait_until(lambda: operator.attach(session_id).stream_count == 0, 20, "who left is noticed")
    with streaming(server, cookie, url) as staying:
        assert staying.read(len(HELLO)) == HELLO
        assert operator.attach(session_id).stream_count == 1
        operator.end(session_id, reason="admin")
        assert staying.read() == ENDED
    wait_until(lambda: operator.stats().resources["owed"] == 0, 20, "it is acknowledged")
    server.wait_for_log("source closed")
    assert "Traceback" not in server.logs(), server.tail()


async def test_a_websocket_beside_django_ends_with_djangos_session(serve: Serve, operator: Sessions) -> None:
    server = serve("asgi")
    address = server.url.replace("http", "ws")
    with pytest.raises(InvalidStatus) as refused:
        await connect(address, proxy=None)
    assert refused.value.response.status_code == 401
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as web:
        begun = await web.get("/begin")
        headers, session_id = {"Cookie": f"sessionid={web.cookies['sessionid']}"}, begun.json()["id"]
    async with connect(address, additional_headers=headers, proxy=None) as websocket:
        await websocket.send("hello")
        assert await websocket.recv() == "hello"
        with pytest.raises(InvalidStatus) as refused:
            await connect(address, additional_headers=headers, proxy=None)
        assert refused.value.response.status_code == 429
        assert "MAX_STREAMS_PER_SESSION" in json.loads(refused.value.response.body or b"{}")["limit"]
        await asyncio.to_thread(operator.end, session_id)
        await asyncio.wait_for(websocket.wait_closed(), 60)
        assert websocket.close_code == 4401
    await asyncio.to_thread(wait_until, lambda: operator.stats().resources["owed"] == 0, 20, "it is acknowledged")


async def test_a_websocket_that_leaves_gives_its_place_back(serve: Serve, operator: Sessions) -> None:
    server = serve("asgi")
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as web:
        begun = await web.get("/begin")
        headers, session_id = {"Cookie": f"sessionid={web.cookies['sessionid']}"}, begun.json()["id"]
    async with connect(server.url.replace("http", "ws"), additional_headers=headers, proxy=None) as websocket:
        await websocket.send("hello")
        assert await websocket.recv() == "hello"
    await asyncio.to_thread(wait_until, lambda: operator.attach(session_id).stream_count == 0, 20, "it is given back")
