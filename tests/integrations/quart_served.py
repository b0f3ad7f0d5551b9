"""A Quart app with sessions, as docs/fastapi.md tells to make one; servers call `make`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from quart import Quart, Response, flash, get_flashed_messages, request, session, websocket

from sessionsweep import AsyncSessions, SessionSweepError
from sessionsweep.integrations.answers import answer_to
from sessionsweep.integrations.asgi import SessionSweepMiddleware, current_session
from sessionsweep.integrations.asgi.quart import ScopeSessionInterface


def make(sessions: AsyncSessions | None = None, **options: Any) -> Quart:
    made = Quart("served")
    made.asgi_app = SessionSweepMiddleware(  # type: ignore[method-assign]
        made.asgi_app,  # type: ignore[arg-type]
        sessions=sessions,
        without_session=["/none"],
        **options,
    )
    made.session_interface = ScopeSessionInterface()

    @made.errorhandler(SessionSweepError)
    async def told(error: SessionSweepError) -> Any:
        found = answer_to(error)
        if found is None:
            raise error
        return dict(found.body), found.status, dict(found.headers)

    @made.before_request
    async def everybody_is_permanent() -> None:
        session.permanent = True

    @made.get("/untouched")
    async def untouched() -> Any:
        return {}

    @made.get("/none")
    async def none() -> Any:
        session["x"] = 1
        return {}

    @made.get("/read")
    async def read() -> Any:
        mine = current_session(request.scope)
        return {"data": dict(session), "user": mine.user, "id": mine.id, "left": mine.time_left()}

    @made.post("/set")
    async def set_() -> Any:
        session.update(await request.get_json())
        return {}

    @made.post("/replace")
    async def replace() -> Any:
        request.scope["session"] = await request.get_json()
        return {}

    @made.post("/clear")
    async def clear() -> Any:
        session.clear()
        return {}

    @made.post("/flash")
    async def flash_() -> Any:
        await flash("hello", "note")
        return {}

    @made.get("/flashes")
    async def flashes() -> Any:
        return [list(one) for one in get_flashed_messages(with_categories=True)]

    @made.post("/login/<user>")
    async def log_in(user: str) -> Any:
        await current_session(request.scope).log_in(user)
        return {}

    @made.post("/logout")
    async def log_out() -> Any:
        await current_session(request.scope).log_out()
        return {}

    @made.post("/file")
    async def file() -> Any:
        async with current_session(request.scope).new_file("upload") as f:
            await f.write(await request.get_data())
        return {"id": f.id}

    @made.get("/file/<rid>")
    async def content(rid: str) -> Any:
        with await current_session(request.scope).open_file(rid) as opened:
            return opened.read()

    @made.get("/events")
    async def events() -> Any:
        async def source() -> AsyncIterator[str]:
            yield "one"
            yield "two"

        return Response(current_session(request.scope).events(source()), content_type="text/event-stream")

    @made.websocket("/ws")
    async def ws() -> None:
        async with current_session(websocket.scope).websocket(websocket, purpose="echo"):  # type: ignore[arg-type]
            await websocket.accept()
            await websocket.send(str(dict(session)))
            while True:
                await websocket.send(await websocket.receive())

    @made.websocket("/ws-plain")
    async def plain() -> None:
        async with current_session(websocket.scope).websocket(websocket, purpose="plain"):  # type: ignore[arg-type]
            await websocket.accept()
            await websocket.send(str(dict(session)))
            await asyncio.Event().wait()

    return made
