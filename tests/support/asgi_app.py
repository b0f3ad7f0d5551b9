"""A small ASGI app over AsyncSessions, as uvicorn's workers import it."""

from __future__ import annotations

import os
from typing import Annotated, Any

from fastapi import Cookie, FastAPI, Request, Response

from sessionsweep import AsyncSessions, InvalidTokenError

app = FastAPI()
sessions = AsyncSessions.from_env()  # made at import, before uvicorn's loop runs: nothing connects yet


@app.put("/note")
async def note(request: Request, response: Response, token: Annotated[str, Cookie()] = "") -> dict[str, Any]:
    """Writes the body to a file of the session, and says whose session and which process it was."""
    try:
        session = await sessions.open(token)
    except InvalidTokenError:
        session, token = await sessions.create(data={"first": (await request.body()).decode()})
        response.set_cookie("token", token)
    async with session.new_file(purpose="note") as f:
        await f.write(await request.body())
    return {"session": session.id, "first": session.data["first"], "file": f.id, "pid": os.getpid()}


@app.get("/notes")
async def notes(token: Annotated[str, Cookie()] = "") -> dict[str, Any]:
    """What the session's files hold."""
    session = await sessions.open(token)
    contents = []
    for resource in await session.resources():
        with await session.open_file(resource.id) as opened:
            contents.append(opened.read().decode())
    return {"contents": contents, "pid": os.getpid()}
