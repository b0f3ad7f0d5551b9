"""A generator view as server-sent events of its client's session, by a decorator."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, ParamSpec

from flask import Response

from sessionsweep.integrations.events import SILENCE
from sessionsweep.integrations.flask.interface import current_session

P = ParamSpec("P")


def session_events(
    purpose: str = "events", *, keep_alive: float = SILENCE, linger: float = 0.0
) -> Callable[[Callable[P, Iterable[Any]]], Callable[P, Response]]:
    """Decorates a generator view, below Flask's own route: see `RequestSession.events` for what it may yield."""

    def decorate(view: Callable[P, Iterable[Any]]) -> Callable[P, Response]:
        @wraps(view)
        def respond(*args: P.args, **kwargs: P.kwargs) -> Response:
            source = view(*args, **kwargs)
            return current_session.events(source, purpose, keep_alive=keep_alive, linger=linger)

        return respond

    return decorate
