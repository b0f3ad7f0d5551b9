"""The ASGI app of one node, configured by the SESSIONSWEEP_… variables: `uvicorn socketio_chat.app:app`."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from sessionsweep import AsyncSessions

from .chat import Chat

STATIC = Path(__file__).parent / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


async def page(request: Request) -> Response:
    """The page; its session begins when it connects."""
    headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    return FileResponse(STATIC / "page.html", headers=headers)


pages = Starlette(routes=[Route("/", page), Mount("/static", StaticFiles(directory=STATIC))])
app = Chat(AsyncSessions.from_env(), pages).app
