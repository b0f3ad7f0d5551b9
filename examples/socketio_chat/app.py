"""The ASGI app of one node, configured by the SESSIONSWEEP_… variables: `uvicorn socketio_chat.app:app`."""

from __future__ import annotations

from sessionsweep import AsyncSessions

from .chat import Chat

app = Chat(AsyncSessions.from_env()).app
