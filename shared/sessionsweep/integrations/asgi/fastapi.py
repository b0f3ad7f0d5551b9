"""FastAPI's form of the request's session: `async def view(session: CurrentSession)`, of requests and WebSockets."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from sessionsweep.integrations.asgi.request import RequestSession, current_session


async def _current(connection: HTTPConnection) -> RequestSession:  # not `def`: FastAPI would start a thread for it
    return current_session(connection)


CurrentSession = Annotated[RequestSession, Depends(_current)]
