"""A FastAPI app as servers import it: data, files, WebSockets and event streams of a session."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from starlette.responses import StreamingResponse

from sessionsweep.integrations.asgi import CurrentSession, SessionSweepMiddleware, session_stream

app = FastAPI()
app.add_middleware(SessionSweepMiddleware)


@app.get("/untouched")
async def untouched() -> int:
    """Needs no session."""
    return os.getpid()


@app.get("/read")
async def read(session: CurrentSession) -> dict[str, Any]:
    """Reads it."""
    return {"id": session.id, "user": session.user, "data": dict(session.data), "pid": os.getpid()}


@app.get("/pid")
async def pid() -> int:
    """Says which process answered, and nothing of a session."""
    return os.getpid()


@app.post("/data")
async def data(request: Request) -> dict[str, Any]:
    """Writes to it."""
    request.session.update(await request.json())
    return {"data": dict(request.session), "pid": os.getpid()}


@app.post("/count")
async def count(session: CurrentSession) -> dict[str, Any]:
    """One more, and whose it is."""
    session.data["count"] = session.data.get("count", 0) + 1
    return {"count": session.data["count"], "owner": session.data.get("owner"), "id": session.id, "pid": os.getpid()}


@app.post("/login/{user}")
async def log_in(user: str, session: CurrentSession) -> None:
    """Binds it to a user."""
    await session.log_in(user)


@app.post("/logout")
async def log_out(session: CurrentSession) -> None:
    """Ends it."""
    await session.log_out()


@app.post("/idle/{seconds}")
async def idle(seconds: float, session: CurrentSession) -> None:
    """Gives it an idle timeout of its own."""
    await session.extend(idle=seconds)


@app.get("/slow/{word}")
async def slow(word: str, session: CurrentSession) -> dict[str, Any]:
    """Asks the store many things, so that clients can leave in between."""
    for _ in range(5):
        await session.resources()
        await session.others()
    return {"word": word, "owner": session.data.get("owner")}


@app.websocket("/ws")
async def ws(websocket: WebSocket, session: CurrentSession) -> None:
    """Echoes; `touch` is a message that counts as activity, `fail` a bug."""
    async with session.websocket(websocket, purpose="echo"):
        await websocket.accept()
        await websocket.send_text(str(session.id))
        async for message in websocket.iter_text():
            if message == "touch":
                await session.touch()
            if message == "fail":
                raise ZeroDivisionError
            await websocket.send_text(message)


@app.websocket("/ws-late")
async def ws_late(websocket: WebSocket, session: CurrentSession) -> None:
    """Accepts whoever comes, and asks for a session later."""
    await websocket.accept()
    async with session.websocket(websocket, code=4999):
        await websocket.send_text("in")
        await asyncio.Event().wait()


@app.websocket("/ws-lingers")
async def ws_lingers(websocket: WebSocket, session: CurrentSession) -> None:
    """Says which place it has, and keeps it for who comes back."""
    async with session.websocket(websocket, purpose="lingers", linger=60) as stream:
        await websocket.accept()
        await websocket.send_text(stream.id)
        async for _ in websocket.iter_text():
            pass


@app.websocket("/ws-decorated")
@session_stream("decorated", code=4998)
async def ws_decorated(websocket: WebSocket, greeting: str = "hello") -> None:
    """Is a stream without asking for the session."""
    await websocket.accept()
    await websocket.send_text(greeting)
    await asyncio.Event().wait()


@app.get("/poll")
@session_stream("poll")
async def poll(request: Request) -> None:
    """A long poll that has no news."""
    print("polling", flush=True)
    await asyncio.Event().wait()


@app.get("/events/{count}")
async def events(count: int, session: CurrentSession) -> StreamingResponse:
    """So many events, then silence; 0: events as fast as they are taken."""

    async def source() -> AsyncIterator[Any]:
        try:
            number = 0
            while not count or number < count:
                number += 1
                yield {"event": "tick", "data": {"n": number}} if number % 2 else f"text {number}\nsecond line"
            await asyncio.Event().wait()
        finally:
            print("source closed", flush=True)

    return StreamingResponse(session.events(source(), purpose="ticks"), media_type="text/event-stream")


@app.get("/short-events")
async def short_events(session: CurrentSession) -> StreamingResponse:
    """One event, and the end."""

    async def source() -> AsyncIterator[bytes]:
        yield b"data: raw\n\n"

    return StreamingResponse(session.events(source()), media_type="text/event-stream")
