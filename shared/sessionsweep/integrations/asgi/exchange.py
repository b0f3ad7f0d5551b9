"""What goes back to one client: the app's response with our headers, or our answer to an error in its place."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from sessionsweep.errors import InvalidTokenError, LimitReachedError, SessionSweepError
from sessionsweep.integrations import timeleft
from sessionsweep.integrations.answers import answer_to
from sessionsweep.integrations.asgi.headers import Cookie, forbid_caching, keep_private, vary_by_cookie
from sessionsweep.integrations.asgi.request import RequestSession
from sessionsweep.integrations.asgi.streams import CLOSED
from sessionsweep.integrations.asgi.types import Message, Scope, Send

log = logging.getLogger(__name__)

POLICY, LATER = 1008, 1013  # WebSocket close codes: RFC 6455 (7.4.1) policy violation; IANA's "try again later"


class Exchange:
    """One request's response. Data is saved right before it starts: then it is known what is to be kept."""

    def __init__(self, scope: Scope, send: Send, session: RequestSession, cookie: Cookie, *, time_left: bool) -> None:
        self._scope = scope
        self._send = send
        self._session = session
        self._cookie = cookie
        self._time_left = time_left
        self._started = False
        self._replaced = False

    async def send(self, message: Message) -> None:
        """The `send` that the app sees."""
        if self._replaced:
            return  # the rest of a response that wasn't sent
        if message["type"] == "http.response.start" and not self._started:
            try:
                self._session.adopt_data(self._scope)
                await self._session.finish()
            except SessionSweepError as error:
                # Not raised: an app's handler for such errors would be refused a second response.
                found = answer_to(error)
                if found is None:
                    raise
                _tell(error, found.status)
                await self._begin_answer(found.status, found.body, found.headers)
                self._replaced = True
                return
            self._started = True
            self._add_headers(message)
        await self._send(message)

    async def answer(self, error: SessionSweepError) -> bool:
        """Tells the client what went wrong. False: the fault is the app's own, or its response has begun."""
        found = answer_to(error)
        if self._started or self._replaced or found is None:
            await self.failed()
            return self._replaced
        _tell(error, found.status)
        await answer(self.send, found.status, found.body, found.headers)
        return True

    async def failed(self) -> None:
        """The app failed. What answers it may never pass here, so that a token made before is handed out now."""
        if not self._started and not self._replaced and (self._session.new_token or self._session.removed):
            await self._begin_answer(500, {"error": "Internal server error."}, {})
            self._replaced = True

    async def _begin_answer(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        self._started = True

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add_headers(message)
            await self._send(message)

        await answer(send, status, body, headers)

    def _add_headers(self, start: Message) -> None:
        start["headers"] = list(start.get("headers", ()))
        session = self._session
        fresh = session.new_token is not None or session.removed
        left = session.peek_time_left() if self._time_left else None
        if left is not None:
            start["headers"].append((timeleft.HEADER.lower().encode(), timeleft.header_value(left).encode()))
        if session.was_read or fresh or left is not None:
            vary_by_cookie(start)
            keep_private(start)
        if fresh:
            start["headers"].append((b"set-cookie", self._cookie.carry(session.new_token).encode()))
            forbid_caching(start)


class Handshake:
    """One WebSocket. An error before it is accepted refuses it, later it closes it with a code."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._can_answer = "websocket.http.response" in (scope.get("extensions") or {})
        self._send = send
        self._accepted = False
        self._closed = False

    async def send(self, message: Message) -> None:
        """The `send` that the app sees."""
        if message["type"] == "websocket.accept":
            self._accepted = True
        elif message["type"] == "websocket.close" and self._closed:
            return  # Litestar and Quart close for the error with which the block of an ended session was left
        elif message["type"] in ("websocket.close", "websocket.http.response.start"):
            self._closed = True
        await self._send(message)

    async def answer(self, error: SessionSweepError) -> bool:
        """Refuses or closes the socket for what went wrong. False: the fault is the app's own."""
        found = answer_to(error)
        if found is None:
            return False
        if self._closed:
            return True  # with its session's end, and the block that held it was left
        _tell(error, found.status)
        self._closed = True
        if not self._accepted and self._can_answer:
            await answer(self._send, found.status, found.body, found.headers, kind="websocket.http.response")
            return True
        code = CLOSED if isinstance(error, InvalidTokenError) else LATER
        if isinstance(error, LimitReachedError):
            code = POLICY
        await self._send({"type": "websocket.close", "code": code, "reason": str(found.body["error"])[:120]})
        return True

    async def failed(self) -> None:
        """The server closes it."""


async def answer(
    send: Send, status: int, body: Mapping[str, Any], headers: Mapping[str, str], kind: str = "http.response"
) -> None:
    """A whole JSON response."""
    content = json.dumps(body, separators=(",", ":")).encode()
    await respond(send, status, content, {"Content-Type": "application/json", **headers}, kind)


async def respond(
    send: Send, status: int, content: bytes, headers: Mapping[str, str], kind: str = "http.response"
) -> None:
    """A whole response; a server leaves the body out where HEAD asked."""
    fields = {"Content-Length": str(len(content)), **headers}
    encoded = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
    await send({"type": f"{kind}.start", "status": status, "headers": encoded})
    await send({"type": f"{kind}.body", "body": content})


def _tell(error: SessionSweepError, status: int) -> None:
    if status >= 500:
        log.error("%s: %s", type(error).__name__, error)
