"""Sessions in ASGI apps: made when something is kept, one cookie, typed answers; Starlette and FastAPI, both stores."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, UploadFile
from fastapi import Request as FastRequest
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse as StarletteJSON
from starlette.routing import Mount, Route

from sessionsweep import AsyncSessions, ConfigurationError, SessionSweepError, Settings, StoreUnavailableError
from sessionsweep.integrations.asgi import CurrentSession, SessionSweepMiddleware, current_session, no_activity
from sessionsweep.store.redis.aio import AsyncRedisStore
from support.nodes import KEY, Node
from support.processes import wait_until

Web = Callable[..., httpx.AsyncClient]


def make_app(sessions: AsyncSessions, **options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(SessionSweepMiddleware, sessions=sessions, **options)

    @app.get("/untouched")
    async def untouched() -> dict[str, Any]:
        return {}

    @app.get("/read")
    async def read(session: CurrentSession) -> dict[str, Any]:
        return {
            "id": session.id,
            "user": session.user,
            "data": dict(session.data),
            "files": session.resource_count,
            "bytes": session.bytes_used,
            "left": session.time_left(),
            "is": bool(session),
            "resources": [one.id for one in await session.resources()],
        }

    @app.post("/data")
    async def data(request: FastRequest) -> dict[str, Any]:
        request.session.update(await request.json())
        return dict(request.session)

    @app.get("/data")
    async def only_data(request: FastRequest) -> dict[str, Any]:
        return dict(request.session)

    @app.post("/nested")
    async def nested(request: FastRequest) -> dict[str, Any]:
        request.session.setdefault("list", []).append(len(request.session["list"]))
        return dict(request.session)

    @app.post("/drop/{key}")
    async def drop(request: FastRequest, key: str) -> dict[str, Any]:
        del request.session[key]
        return dict(request.session)

    @app.post("/clear")
    async def clear(request: FastRequest) -> None:
        request.session.clear()

    @app.post("/file")
    async def file(file: UploadFile, session: CurrentSession) -> dict[str, Any]:
        async with session.new_file("upload", ".txt") as f:
            await f.copy_from(file)
        return {"id": f.id, "session": session.id}

    @app.get("/file/{rid}")
    async def content(rid: str, session: CurrentSession) -> dict[str, Any]:
        with await session.open_file(rid) as opened:
            return {"content": opened.read().decode()}

    @app.delete("/file/{rid}")
    async def delete(rid: str, session: CurrentSession) -> None:
        await session.delete(rid)

    @app.post("/two-files")
    async def two_files(session: CurrentSession) -> list[str]:
        async def one() -> str:
            async with session.new_file() as f:
                await f.write(b"x")
            return f.id

        return list(await asyncio.gather(one(), one()))

    @app.post("/login/{user}")
    async def log_in(user: str, session: CurrentSession) -> None:
        await session.log_in(user)

    @app.post("/logout")
    async def log_out(session: CurrentSession) -> None:
        await session.log_out()

    @app.post("/set-and-logout")
    async def set_and_log_out(session: CurrentSession) -> dict[str, Any]:
        session.data["x"] = 1
        await session.log_out()
        return dict(session.data)

    @app.post("/late")
    async def late(session: CurrentSession) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            try:
                await session.log_in("ana")
            except RuntimeError as error:
                yield str(error)

        return StreamingResponse(body())

    @app.post("/rotate")
    async def rotate(session: CurrentSession) -> None:
        await session.rotate()

    @app.post("/rotate-and-fail/{how}")
    async def rotate_and_fail(how: str, session: CurrentSession) -> None:
        await session.rotate()
        if how == "limit":
            await session.open_file("nothing")
        raise ZeroDivisionError

    @app.get("/others")
    async def others(session: CurrentSession) -> list[dict[str, Any]]:
        return [
            {"id": one.id, "device": one.device, "address": one.address, "seen": one.last_seen.timestamp()}
            for one in await session.others()
        ]

    @app.post("/others/{session_id}/end")
    async def end_other(session_id: str, session: CurrentSession) -> bool:
        return await session.end_other(session_id)

    @app.post("/log-out-others")
    async def log_out_others(session: CurrentSession) -> int:
        return await session.log_out_others()

    @app.post("/extend-by/{seconds}")
    async def extend(seconds: float, session: CurrentSession) -> float | None:
        await session.extend(idle=seconds)
        return session.time_left()

    @app.post("/ended")
    async def ended(session: CurrentSession) -> str:
        session.data["late"] = 1
        assert session.id is not None
        await session.sessions.end(session.id)
        return "ok"

    @app.get("/poll/decorated")
    @no_activity
    async def decorated(session: CurrentSession) -> float | None:
        return session.time_left()

    @app.get("/poll/{name}")
    async def poll(name: str, session: CurrentSession) -> float | None:
        return session.time_left()

    @app.get("/public")
    async def public(request: FastRequest) -> JSONResponse:
        request.session["x"] = 1
        return JSONResponse({}, headers={"Cache-Control": "public, max-age=600", "Vary": "Accept"})

    return app


@pytest.fixture
async def web(sessions: AsyncSessions) -> AsyncIterator[Web]:
    made: list[httpx.AsyncClient] = []
    app = make_app(sessions)

    def make(app: Any = app, url: str = "http://app", **options: Any) -> httpx.AsyncClient:
        peer = options.pop("peer", ("203.0.113.5", 4711))
        transport = httpx.ASGITransport(app=app, client=peer, raise_app_exceptions=False)
        made.append(httpx.AsyncClient(transport=transport, base_url=url, **options))
        return made[-1]

    yield make
    for client in made:
        await client.aclose()


@pytest.fixture(params=["redis", "memory"])
def options(request: pytest.FixtureRequest, redis_url: str, namespace: str, tmp_path: Any) -> dict[str, Any]:
    return {
        "redis_url": redis_url if request.param == "redis" else "memory://",
        "namespace": namespace,
        "secret_key": KEY,
        "node": "a",
        "volumes": f"a={tmp_path / 'a'}",
    }


@pytest.fixture
async def sessions(options: dict[str, Any]) -> AsyncIterator[AsyncSessions]:
    made = AsyncSessions(Settings(**options))
    yield made
    await made.close()


def token(client: httpx.AsyncClient) -> str:
    return client.cookies["sessionsweep"]


def set_cookie(answer: httpx.Response) -> tuple[str, set[str]]:
    name, *parts = answer.headers["Set-Cookie"].split("; ")
    return name.partition("=")[0], set(parts)


EMPTY = {
    "id": None, "user": None, "data": {}, "files": 0, "bytes": 0, "left": None, "is": False, "resources": [],
}  # fmt: skip


# a session's life


async def test_reading_makes_nothing(web: Web, sessions: AsyncSessions) -> None:
    client = web()
    answer = await client.get("/read")
    assert answer.json() == EMPTY
    assert "Set-Cookie" not in answer.headers
    assert (await sessions.stats()).total_sessions_created == 0


async def test_the_first_key_makes_a_session_that_other_requests_find(web: Web, sessions: AsyncSessions) -> None:
    client = web()
    first = await client.post("/data", json={"x": 1, "y": {"z": [1]}})
    assert set_cookie(first) == ("sessionsweep", {"HttpOnly", "Path=/", "SameSite=Lax"})
    again = await client.get("/read")
    assert again.json()["data"] == {"x": 1, "y": {"z": [1]}}
    assert "Set-Cookie" not in again.headers
    (record,), _ = await sessions.list()
    assert (record.ip, record.user_agent) == ("203.0.113.5", client.headers["User-Agent"])
    assert again.json()["id"] == record.id
    assert (await web().get("/read")).json() == EMPTY, "nobody else's"


async def test_changes_inside_of_a_value_are_saved(web: Web) -> None:
    client = web()
    for expected in ([0], [0, 1], [0, 1, 2]):
        assert (await client.post("/nested")).json() == {"list": expected}
    await client.post("/data", json={"other": 1})
    assert (await client.post("/drop/list")).json() == {"other": 1}
    assert (await client.get("/read")).json()["data"] == {"other": 1}
    before = (await client.get("/read")).json()["id"]
    await client.post("/clear")
    after = (await client.get("/read")).json()
    assert (after["data"], after["id"]) == ({}, before), "files may hang on it; only a log-out ends it"


async def test_only_changed_keys_are_sent(web: Web, sessions: AsyncSessions) -> None:
    app = make_app(sessions)
    both = asyncio.Barrier(2)

    @app.post("/slow/{key}")
    async def slow(key: str, request: FastRequest) -> None:
        await both.wait()  # both have read it before either writes
        request.session[key] = key

    client = web(app)
    await client.post("/data", json={"a": 0, "b": 0, "c": 0})
    await asyncio.gather(client.post("/slow/a"), client.post("/slow/b"))
    assert (await client.get("/read")).json()["data"] == {"a": "a", "b": "b", "c": 0}


async def test_files(web: Web) -> None:
    client = web()
    made = (await client.post("/file", files={"file": b"hello"})).json()
    assert (await client.get(f"/file/{made['id']}")).json() == {"content": "hello"}
    seen = (await client.get("/read")).json()
    assert (seen["files"], seen["bytes"], seen["resources"]) == (1, 5, [made["id"]])
    assert (await web().get(f"/file/{made['id']}")).status_code == 404
    await client.delete(f"/file/{made['id']}")
    assert (await client.get(f"/file/{made['id']}")).status_code == 404


async def test_two_files_made_at_once_belong_to_one_session(web: Web, sessions: AsyncSessions) -> None:
    client = web()
    assert len(set((await client.post("/two-files")).json())) == 2
    assert (await sessions.stats()).total_sessions_created == 1
    assert (await client.get("/read")).json()["files"] == 2


async def test_many_requests_of_one_client_at_once(web: Web) -> None:
    client = web()
    await client.post("/data", json={"x": 0})
    posts = [client.post("/data", json={f"k{n}": n}) for n in range(20)]
    reads = [client.get("/read") for _ in range(20)]
    answers = await asyncio.gather(*posts, *reads)
    assert {one.status_code for one in answers} == {200}
    assert (await client.get("/read")).json()["data"] == {"x": 0, **{f"k{n}": n for n in range(20)}}


async def test_log_in_rotates_at_once_and_keeps_the_files(web: Web) -> None:
    client = web()
    rid = (await client.post("/file", files={"file": b"mine"})).json()["id"]
    old = token(client)
    await client.post("/login/ana")
    assert token(client) != old
    assert (await client.get(f"/file/{rid}")).json() == {"content": "mine"}
    assert (await client.get("/read")).json()["user"] == "ana"
    thief = web(cookies={"sessionsweep": old})
    assert (await thief.get("/read")).json() == EMPTY
    await client.post("/rotate")
    assert token(client) != old
    assert (await client.get("/read")).json()["user"] == "ana"


async def test_a_log_in_of_another_user_starts_anew(web: Web) -> None:
    client = web()
    await client.post("/login/ana")
    rid = (await client.post("/file", files={"file": b"anas"})).json()["id"]
    await client.post("/login/bob")
    assert (await client.get("/read")).json()["user"] == "bob"
    assert (await client.get(f"/file/{rid}")).status_code == 404


async def test_log_out_ends_it_and_removes_the_cookie(web: Web, sessions: AsyncSessions) -> None:
    client = web()
    await client.post("/data", json={"x": 1})
    before = token(client)
    answer = await client.post("/logout")
    name, parts = set_cookie(answer)
    assert name == "sessionsweep"
    assert {"Max-Age=0", "Path=/", "HttpOnly", "SameSite=Lax"} <= parts
    assert "sessionsweep" not in client.cookies
    assert (await web(cookies={"sessionsweep": before}).get("/read")).json() == EMPTY
    assert (await sessions.stats()).active_sessions == 0


async def test_what_was_set_before_a_log_out_makes_no_new_session(web: Web, sessions: AsyncSessions) -> None:
    client = web()
    await client.post("/data", json={"y": 1})
    answer = await client.post("/set-and-logout")
    assert answer.json() == {}
    assert "Max-Age=0" in answer.headers["Set-Cookie"]
    assert (await sessions.stats()).total_sessions_created == 1


async def test_a_session_made_too_late_for_its_cookie_is_refused(web: Web, sessions: AsyncSessions) -> None:
    assert "before it starts" in (await web().post("/late")).text
    assert (await sessions.stats()).total_sessions_created == 0


async def test_made_up_tokens_are_anonymous_and_leave_nothing(web: Web, sessions: AsyncSessions) -> None:
    for bad in ("", "x", "00" + "a" * 18 + "." + "b" * 43, "a.b.c", "é"):
        answer = await web().get("/read", headers={"Cookie": f"sessionsweep={bad}".encode()})
        assert answer.json() == EMPTY
        assert "Set-Cookie" not in answer.headers
    fixed = "00" + "a" * 18 + "." + "b" * 43
    client = web(cookies={"sessionsweep": fixed})
    answer = await client.post("/data", json={"x": 1})
    assert fixed not in answer.headers["Set-Cookie"], "a session never takes the token that a client brought"
    assert (await sessions.stats()).total_sessions_created == 1


async def test_a_session_that_ended_meanwhile_is_not_resurrected(web: Web, sessions: AsyncSessions) -> None:
    client = web()
    await client.post("/data", json={"x": 1})
    answer = await client.post("/ended")
    assert (answer.status_code, list(answer.json())) == (401, ["error"])
    assert (await sessions.stats()).active_sessions == 0


# my other sessions


async def test_a_user_sees_and_ends_their_own_other_sessions_only(web: Web, sessions: AsyncSessions) -> None:
    laptop = web(headers={"User-Agent": "Laptop"})
    phone = web(headers={"User-Agent": "Phone"}, peer=("198.51.100.7", 1))
    tablet, stranger, nobody = web(), web(), web()
    for client, user in ((laptop, "ana"), (phone, "ana"), (tablet, "ana"), (stranger, "bob")):
        await client.post(f"/login/{user}")
    (theirs,) = (await sessions.list(user="bob"))[0]
    listed = (await laptop.get("/others")).json()
    phones = next(one for one in listed if one["device"] == "Phone")
    assert (len(listed), phones["address"]) == (2, "198.51.100.7")
    assert all(set(one) == {"id", "device", "address", "seen"} for one in listed)
    assert [one["seen"] for one in listed] == sorted((one["seen"] for one in listed), reverse=True)
    own = (await laptop.get("/read")).json()["id"]
    for client, target in ((laptop, theirs.id), (laptop, own), (laptop, "nothing"), (nobody, own), (stranger, own)):
        assert (await client.post(f"/others/{target}/end")).json() is False
    assert (await laptop.post(f"/others/{phones['id']}/end")).json() is True
    assert (await phone.get("/read")).json() == EMPTY
    assert (await laptop.post("/log-out-others")).json() == 1
    assert (await tablet.get("/read")).json() == EMPTY
    assert (await laptop.get("/others")).json() == []
    assert (await stranger.get("/read")).json()["user"] == "bob"
    assert ((await nobody.get("/others")).json(), (await nobody.post("/log-out-others")).json()) == ([], 0)


# headers


async def test_answers_that_read_the_session_are_private_and_vary(web: Web) -> None:
    client = web()
    untouched = await client.get("/untouched")
    assert not {"vary", "cache-control", "set-cookie"} & set(untouched.headers)
    read = await client.get("/read")
    assert (read.headers["Vary"], read.headers["Cache-Control"]) == ("Cookie", "private")
    made = await client.get("/public")
    assert made.headers.get_list("Cache-Control") == ["private, no-store"], "over what the view says"
    assert made.headers.get_list("Vary") == ["Accept", "Cookie"]
    again = await client.get("/public")  # no new cookie: the view's own word stands
    assert again.headers["Cache-Control"] == "public, max-age=600"
    assert not {"vary", "cache-control"} & set((await client.get("/untouched")).headers)


@pytest.mark.parametrize(
    ("url", "secure", "proto", "name", "is_secure"),
    [
        ("http://app", "auto", None, "sessionsweep", False),
        ("https://app", "auto", None, "__Host-sessionsweep", True),
        ("http://app", "auto", "https", "__Host-sessionsweep", True),
        ("https://app", "auto", "http", "sessionsweep", False),
        ("http://app", "always", None, "__Host-sessionsweep", True),
        ("https://app", "never", None, "sessionsweep", False),
    ],
)
async def test_secure_follows_the_scheme_after_listed_proxies(
    web: Web, options: dict[str, Any], url: str, secure: str, proto: str | None, name: str, is_secure: bool
) -> None:
    sessions = AsyncSessions(Settings(**options, cookie_secure=secure, trusted_proxies="203.0.113.5"))
    client = web(make_app(sessions), url=url, headers={"X-Forwarded-Proto": proto} if proto else None)
    got, parts = set_cookie(await client.post("/data", json={"x": 1}))
    assert (got, "Secure" in parts) == (name, is_secure)
    assert "Path=/" in parts
    assert not [part for part in parts if part.startswith("Domain")]
    await sessions.close()


async def test_the_name_without_its_prefix_is_not_believed_over_https(web: Web) -> None:
    client = web(url="https://app")
    await client.post("/data", json={"x": 1})
    value = client.cookies["__Host-sessionsweep"]
    other = web(url="https://app", cookies={"sessionsweep": value})
    assert (await other.get("/read")).json() == EMPTY, "any subdomain could have set it"


async def test_http_is_told_once(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    client = web()
    for _ in range(3):
        await client.get("/read")
    assert caplog.text.count("COOKIE_SECURE") == 1


async def test_no_answer_or_log_line_holds_the_secret(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = web()
    await client.post("/login/ana")
    secret = token(client).split(".")[1]
    for answer in (await client.get("/read"), await client.get("/others"), await client.get("/file/x")):
        assert secret not in answer.text
    assert secret not in caplog.text


async def test_a_token_made_before_a_failure_reaches_the_client(web: Web) -> None:
    client = web()
    await client.post("/data", json={"x": 1})
    for how, status in (("limit", 404), ("bug", 500)):
        before = token(client)
        assert (await client.post(f"/rotate-and-fail/{how}")).status_code == status
        assert token(client) != before
        assert (await client.get("/read")).json()["data"] == {"x": 1}


# errors


async def test_the_apps_own_handler_wins(web: Web, sessions: AsyncSessions) -> None:
    app = make_app(sessions)

    @app.exception_handler(SessionSweepError)
    async def own(request: FastRequest, error: SessionSweepError) -> JSONResponse:
        return JSONResponse({"mine": True}, 418)

    client = web(app)
    assert (await client.get("/file/nothing")).json() == {"mine": True}
    await client.post("/data", json={"x": 1})
    assert (await client.post("/ended")).status_code == 401, "and is not asked for a response that has begun"


async def test_a_store_that_does_not_answer_is_no_empty_session(
    web: Web, own_server: Callable[..., Any], namespace: str
) -> None:
    server = own_server()
    settings = Settings(redis_url=server.url, namespace=namespace, secret_key=KEY, socket_timeout=1)
    sessions = AsyncSessions(settings)
    client = web(make_app(sessions))
    await client.post("/data", json={"x": 1})
    server.stop()
    for answer in (
        await client.get("/read"),
        await client.get("/data"),
        await client.post("/data", json={"x": 2}),
        await client.post("/login/ana"),
        await client.get("/sessionsweep/time-left"),
    ):
        assert (answer.status_code, list(answer.json())) == (503, ["error"])
        assert answer.headers["Retry-After"]
        assert str(server.port) not in answer.text
        assert "Set-Cookie" not in answer.headers
    assert (await client.get("/untouched")).status_code == 200
    await sessions.close()


async def test_an_answer_takes_the_place_of_a_response_that_was_not_saved(sessions: AsyncSessions) -> None:
    said: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = current_session(scope)
        await session.require()
        session.data["late"] = 1
        await sessions.end(session.id)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"all is well", "more_body": True})
        await send({"type": "http.response.body", "body": b"!"})

    async def send(message: Any) -> None:
        said.append(f"{message.get('status', '')}{message.get('body', b'').decode()}")

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    await SessionSweepMiddleware(app, sessions=sessions)(scope, None, send)  # type: ignore[arg-type]
    assert said == ["401", '{"error":"The session is over; start a new one."}']


async def test_limits_are_told_apart(web: Web, options: dict[str, Any]) -> None:
    limits = {"max_bytes_per_session": 10, "max_sessions": 1, "max_sessions_per_user": 1}
    sessions = AsyncSessions(Settings(**options, **limits))
    app = make_app(sessions)
    client, outside = web(app), web(app)
    answer = await client.post("/file", files={"file": b"x" * 11})
    assert (answer.status_code, answer.json()["limit"]) == (413, "MAX_BYTES_PER_SESSION")
    assert "Set-Cookie" in answer.headers, "the session that was made for it stays, empty"
    answer = await outside.post("/data", json={"x": 1})
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    assert "Set-Cookie" not in answer.headers
    await sessions.close()


async def test_data_that_is_no_json_is_the_apps_fault(web: Web, sessions: AsyncSessions) -> None:
    app = make_app(sessions)

    @app.post("/odd")
    async def odd(request: FastRequest) -> None:
        request.session["x"] = object()

    assert (await web(app).post("/odd")).status_code == 500


# what does not count as activity


@pytest.fixture
async def clocked(make_node: Callable[..., Node]) -> AsyncIterator[tuple[Node, AsyncSessions]]:
    """Asynchronous sessions whose time a node moves."""
    node = make_node()
    made = AsyncSessions(node.settings, store=AsyncRedisStore(node.store.url, node.settings.namespace, test_clock=True))
    yield node, made
    await made.close()


async def test_marked_routes_do_not_renew(web: Web, clocked: tuple[Node, AsyncSessions]) -> None:
    node, sessions = clocked
    client = web(make_app(sessions, no_activity=["/poll/health", "/poll/a*"]))
    await client.post("/data", json={"x": 1})
    node.advance(4)
    quiet = ("/poll/health", "/poll/abc", "/poll/decorated", "/sessionsweep/time-left")
    for path in quiet:
        answer = await client.get(path)
        left = answer.json() if "poll" in path else answer.json()["seconds"]
        assert left == pytest.approx(6, abs=0.5), path
    assert (await client.get("/poll/other")).json() == pytest.approx(10, abs=0.5)
    node.advance(9)
    for path in quiet:
        await client.get(path)
    node.advance(1)
    assert (await client.get("/read")).json() == EMPTY


async def test_marks_are_found_in_included_routers_and_mounts(web: Web, clocked: tuple[Node, AsyncSessions]) -> None:
    node, sessions = clocked
    inner, outer, mounted = APIRouter(prefix="/in"), APIRouter(), FastAPI()
    for place in (inner, mounted):

        @place.get("/quiet")  # type: ignore[attr-defined]
        @no_activity
        async def quiet(session: CurrentSession) -> float | None:
            return session.time_left()

        @place.post("/quiet")  # type: ignore[attr-defined]
        async def loud(session: CurrentSession) -> float | None:
            return session.time_left()

    outer.include_router(inner)
    fast = make_app(sessions)
    fast.include_router(outer, prefix="/v1")
    fast.mount("/sub", mounted)
    client = web(fast)
    await client.post("/data", json={"x": 1})
    for path in ("/v1/in/quiet", "/sub/quiet"):
        node.advance(4)
        assert (await client.get(path)).json() == pytest.approx(6, abs=0.5)
        assert (await client.post(path)).json() == pytest.approx(10, abs=0.5)

    @no_activity
    async def plain(request: Request) -> StarletteJSON:
        return StarletteJSON(current_session(request).time_left())

    routes = [Mount("/m", routes=[Route("/quiet", plain)]), Route("/quiet", plain)]
    app = Starlette(routes=routes)
    app.add_middleware(SessionSweepMiddleware, sessions=sessions)
    same = web(app, cookies=dict(client.cookies))
    node.advance(4)
    for path in ("/m/quiet", "/quiet"):
        assert (await same.get(path)).json() == pytest.approx(6, abs=0.5)


async def test_time_left_and_extend(web: Web, clocked: tuple[Node, AsyncSessions]) -> None:
    node, sessions = clocked
    client = web(make_app(sessions, time_left_header=True))
    nothing = await client.get("/sessionsweep/time-left")
    assert (nothing.status_code, nothing.json()) == (200, {"seconds": None})
    assert nothing.headers["Cache-Control"] == "private, no-store"
    assert (await client.post("/sessionsweep/extend")).json() == {"seconds": None}
    script = await client.get("/sessionsweep/warning.js")
    assert script.headers["Content-Type"].startswith("text/javascript")
    assert "/sessionsweep/extend" in script.text
    assert "Session-Time-Left" not in (await client.get("/untouched")).headers
    await client.post("/data", json={"x": 1})
    node.advance(3.5)
    assert (await client.get("/sessionsweep/time-left")).json()["seconds"] == pytest.approx(6.5, abs=0.4)
    assert (await client.get("/sessionsweep/extend")).status_code == 405
    assert (await client.post("/sessionsweep/time-left")).status_code == 405
    assert (await client.get("/sessionsweep/time-left")).json()["seconds"] == pytest.approx(6.5, abs=0.4)
    assert (await client.post("/sessionsweep/extend")).json()["seconds"] == pytest.approx(10, abs=0.4)
    answer = await client.get("/untouched")
    assert answer.headers["Session-Time-Left"] in ("9", "10")
    assert answer.headers["Vary"] == "Cookie"
    assert (await client.post("/extend-by/60")).json() == pytest.approx(60, abs=0.4)


async def test_paths_without_a_session_cost_nothing(web: Web, sessions: AsyncSessions) -> None:
    client = web(make_app(sessions, without_session=["/untouched"], own_routes=False))
    await client.post("/data", json={"x": 1})
    (before,), _ = await sessions.list()
    await client.get("/untouched")
    (after,), _ = await sessions.list()
    assert after.request_count == before.request_count
    assert (await client.get("/sessionsweep/time-left")).status_code == 404


# frameworks and servers


async def test_any_asgi_app_may_put_another_dict_in_its_place(web: Web, sessions: AsyncSessions) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"] = {**scope["session"], scope["path"]: True}
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"%d" % len(scope["session"])})

    client = web(SessionSweepMiddleware(app, sessions=sessions))
    assert [(await client.get(path)).text for path in ("/a", "/b", "/b")] == ["1", "2", "2"]


def test_the_middleware_imports_no_framework() -> None:
    code = (
        "import sys, sessionsweep.integrations.asgi as asgi; asgi.SessionSweepMiddleware, asgi.current_session; "
        "print({'starlette', 'fastapi', 'flask', 'django'} & set(sys.modules)); "
        "asgi.CurrentSession; print('fastapi' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.split() == ["set()", "True"]


async def test_without_the_middleware_it_says_so() -> None:
    with pytest.raises(RuntimeError, match="add SessionSweepMiddleware"):
        current_session({"type": "http"})


@contextlib.asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[list[str]]:
    """Runs an app's lifespan as a server does: yields what it has said so far."""
    inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    outbox: asyncio.Queue[Any] = asyncio.Queue()
    said = []

    async def next_word() -> None:
        said.append((await asyncio.wait_for(outbox.get(), 60))["type"])

    task = asyncio.create_task(app({"type": "lifespan", "state": {}}, inbox.get, outbox.put))
    await inbox.put({"type": "lifespan.startup"})
    await next_word()
    yield said
    await inbox.put({"type": "lifespan.shutdown"})
    await next_word()
    await task


async def test_the_lifespan_starts_and_stops_it(web: Web, options: dict[str, Any], tmp_path: Any) -> None:
    before = sweepers()  # other tests of this process may have left theirs
    settings = Settings(**options, sweeper="in-process", idle_timeout=0.2, grace_period=0, cleanup_interval=0.1)
    app = make_app(None, settings=settings)  # type: ignore[arg-type]
    async with lifespan(app) as said:
        assert sweepers() - before, "before the first request"
        rid = (await web(app).post("/file", files={"file": b"x"})).json()["id"]
        await asyncio.to_thread(wait_until, lambda: not list(tmp_path.rglob(f"*{rid}*")), 20, "the sweeper deleted it")
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert not sweepers() - before
    layer: Any = app.middleware_stack
    while not isinstance(layer, SessionSweepMiddleware):
        layer = layer.app
    if not settings.in_memory:
        with pytest.raises(StoreUnavailableError, match="clos"):
            await layer.sessions.create()


async def test_sessions_that_are_shared_outlive_the_app(web: Web, sessions: AsyncSessions) -> None:
    async with lifespan(make_app(sessions)):
        pass
    await sessions.create()


def sweepers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "sessionsweep"}


async def test_without_a_lifespan_it_works_too(web: Web, options: dict[str, Any], tmp_path: Any) -> None:
    settings = Settings(**options, sweeper="in-process", idle_timeout=0.2, grace_period=0, cleanup_interval=0.1)
    app = make_app(None, settings=settings)  # type: ignore[arg-type]
    client = web(app)
    rid = (await client.post("/file", files={"file": b"x"})).json()["id"]
    await asyncio.to_thread(wait_until, lambda: not list(tmp_path.rglob(f"*{rid}*")), 20, "the sweeper deleted it")
    assert (await client.get("/read")).json() == EMPTY
    async with lifespan(app):  # so that the test leaves nothing
        pass


def test_settings_and_sessions_exclude_each_other(options: dict[str, Any]) -> None:
    settings = Settings(**options)
    with pytest.raises(ConfigurationError, match="not both"):
        SessionSweepMiddleware(lambda *_: None, settings, AsyncSessions(settings))  # type: ignore[arg-type,return-value]


# pages of other origins, and names that only look like ours


@pytest.mark.parametrize("blank", [b"\xa0", b"\x85", b"\x1c"])
async def test_a_name_with_another_blank_before_it_is_another_name(sessions: AsyncSessions, blank: bytes) -> None:
    """Browsers see no `__Host-` prefix there, so that any subdomain may set it."""
    _, victim = await sessions.create(data={"x": 1})
    statuses = []
    for name in (b"__Host-sessionsweep=", blank + b"__Host-sessionsweep=", b"\t __Host-sessionsweep="):
        told: list[Any] = []
        scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": "/read",
            "query_string": b"",
            "scheme": "https",
        }
        scope["headers"] = [(b"cookie", b"a=b;" + name + victim.encode())]
        await make_app(sessions)(scope, _silence, _into(told))
        statuses.append(b'"data":{"x":1}' in told[1]["body"])
    assert statuses == [True, False, True]


async def _silence() -> Any:
    await asyncio.Event().wait()


def _into(told: list[Any]) -> Any:
    async def send(message: Any) -> None:
        told.append(message)

    return send


async def test_no_page_of_another_origin_renews_a_session(web: Web, sessions: AsyncSessions) -> None:
    client = web()
    await client.post("/data", json={"x": 1})
    assert (await client.post("/sessionsweep/extend", headers={"Origin": "http://evil.app"})).status_code == 403
    for mine in ({"Origin": "http://app"}, {"Origin": "http://proxy", "Sec-Fetch-Site": "same-origin"}, {}):
        renewed = await client.post("/sessionsweep/extend", headers=mine)
        assert renewed.status_code == 200
        assert renewed.json()["seconds"] is not None
    listed = web(make_app(sessions, allowed_origins=["http://evil.app"]), cookies=dict(client.cookies))
    assert (await listed.post("/sessionsweep/extend", headers={"Origin": "http://evil.app"})).status_code == 200
    nobody = await web().post("/sessionsweep/extend", headers={"Origin": "http://evil.app"})
    assert nobody.json() == {"seconds": None}
