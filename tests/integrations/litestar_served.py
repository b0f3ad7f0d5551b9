"""A Litestar app with sessions, as docs/fastapi.md tells to make one; servers call `make`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from litestar import Litestar, Request, Response, WebSocket, get, post, websocket
from litestar.response import Stream

from sessionsweep import AsyncSessions, InvalidTokenError, SessionSweepError
from sessionsweep.integrations.answers import answer_to
from sessionsweep.integrations.asgi import SessionSweepMiddleware, current_session


@get("/untouched", sync_to_thread=False)
def untouched() -> dict[str, Any]:
    return {}


@get("/read")
async def read(request: Request[Any, Any, Any]) -> dict[str, Any]:
    session = current_session(request)
    return {"data": dict(request.session), "user": session.user, "id": session.id, "left": session.time_left()}


@post("/set", status_code=200)
async def set_(request: Request[Any, Any, Any]) -> dict[str, Any]:
    request.session.update(await request.json())
    return {}


@post("/replace", status_code=200)
async def replace(request: Request[Any, Any, Any]) -> dict[str, Any]:
    request.set_session(await request.json())
    return {}


@post("/clear", status_code=200)
async def clear(request: Request[Any, Any, Any]) -> dict[str, Any]:
    request.clear_session()
    return {}


@post("/login/{user:str}", status_code=200)
async def log_in(request: Request[Any, Any, Any]) -> dict[str, Any]:
    await current_session(request).log_in(request.path_params["user"])
    return {}


@post("/logout", status_code=200)
async def log_out(request: Request[Any, Any, Any]) -> dict[str, Any]:
    await current_session(request).log_out()
    return {}


@post("/file", status_code=200)
async def file(request: Request[Any, Any, Any]) -> dict[str, Any]:
    async with current_session(request).new_file("upload") as f:
        await f.write(await request.body())
    return {"id": f.id}


@get("/file/{rid:str}")
async def content(request: Request[Any, Any, Any]) -> bytes:
    with await current_session(request).open_file(request.path_params["rid"]) as opened:
        return opened.read()


@get("/events")
async def events(request: Request[Any, Any, Any]) -> Stream:
    async def source() -> AsyncGenerator[str, None]:
        yield "one"
        yield "two"

    return Stream(current_session(request).events(source()), media_type="text/event-stream")


@websocket("/ws")
async def ws(socket: WebSocket[Any, Any, Any]) -> None:
    try:
        async with current_session(socket).websocket(socket, purpose="echo"):
            await socket.accept()
            await socket.send_text(str(dict(socket.session)))
            async for message in socket.iter_data():
                await socket.send_text(message)
    except InvalidTokenError:
        await socket.close(4401)


@websocket("/ws-plain")
async def plain(socket: WebSocket[Any, Any, Any]) -> None:
    """Catches nothing: Litestar closes for the error with which the block is left."""
    async with current_session(socket).websocket(socket, purpose="plain"):
        await socket.accept()
        await socket.send_text(str(dict(socket.session)))
        await asyncio.Event().wait()


def told(request: Request[Any, Any, Any], error: SessionSweepError) -> Response[Any]:
    """What a client is told of an error of ours."""
    found = answer_to(error)
    if found is None:
        raise error
    return Response(
        dict(found.body), media_type="application/json", status_code=found.status, headers=dict(found.headers)
    )


def make(sessions: AsyncSessions | None = None, **options: Any) -> SessionSweepMiddleware:
    handlers = [untouched, read, set_, replace, clear, log_in, log_out, file, content, events, ws, plain]
    inner = Litestar(handlers, exception_handlers={SessionSweepError: told})  # type: ignore[dict-item]
    return SessionSweepMiddleware(inner, sessions=sessions, **options)  # type: ignore[arg-type]
