"""An endpoint that is a stream of its client's session for as long as it runs, by a decorator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from sessionsweep.integrations.asgi.request import current_session
from sessionsweep.integrations.asgi.streams import CLOSED

P = ParamSpec("P")
R = TypeVar("R")


def session_stream(
    purpose: str = "", *, linger: float = 0.0, code: int = CLOSED
) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]:
    """Decorates an endpoint that takes its WebSocket, or a long poll that takes its request.

    It stands below the framework's own route. The endpoint runs inside `session.websocket(websocket, …)`, or
    `session.stream(purpose, …)`: it is cancelled when the session ends on any node. Who has no session, or too many
    streams, is refused before it runs.
    """

    def decorate(endpoint: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        @wraps(endpoint)
        async def registered(*args: P.args, **kwargs: P.kwargs) -> R:
            connection = _connection((*args, *kwargs.values()))
            session = current_session(connection)
            block: AbstractAsyncContextManager[Any] = (
                session.websocket(connection, purpose, linger=linger, code=code)
                if connection.scope["type"] == "websocket"
                else session.stream(purpose, linger=linger)
            )
            async with block:
                return await endpoint(*args, **kwargs)

        return registered

    return decorate


def _connection(given: tuple[object, ...]) -> Any:
    for one in given:
        if hasattr(one, "scope"):
            return one
    raise TypeError("an endpoint below @session_stream takes its WebSocket or Request: name it among its arguments")
