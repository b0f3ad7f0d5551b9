"""Which view a request will reach, before the router says so: to know whether it is marked as no activity."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sessionsweep.integrations.asgi.types import Scope
from sessionsweep.integrations.paths import is_no_activity


@dataclass(frozen=True, slots=True)
class _Route:
    pattern: re.Pattern[str]
    methods: frozenset[str] | None
    websocket: bool
    no_activity: bool
    below: tuple[_Route, ...] | None  # of a mount


class MarkedRoutes:
    """The routes of a Starlette or FastAPI app, in the router's order; the first that matches decides, as there.

    They are read once, with the first request, because routers make up what included routers hold in other ways with
    each version, while all of them say path and view when asked for a list. Of other frameworks nothing is known: name
    their paths by pattern.
    """

    def __init__(self, app: Any) -> None:
        self._routes = tuple(_read(getattr(app, "routes", ())))

    def has_marked(self, scope: Scope, path: str) -> bool:
        """Whether the view for this path, below the app's root, is marked."""
        return _find(self._routes, scope, path)


def _find(routes: Iterable[_Route], scope: Scope, path: str) -> bool:
    for route in routes:
        match = route.pattern.match(path)
        if match is None:
            continue
        if route.below is not None:
            return _find(route.below, scope, "/" + match.groupdict().get("path", ""))
        fits = scope["type"] == "websocket" if route.websocket else scope["type"] == "http"
        if fits and (route.methods is None or scope.get("method") in route.methods):
            return route.no_activity
    return False


def _read(routes: Iterable[Any]) -> Iterator[_Route]:
    fastapi = sys.modules.get("fastapi.routing")
    listed = getattr(fastapi, "iter_route_contexts", None)  # flattens what included routers hold
    for one in listed(routes) if listed is not None else routes:
        pattern, view = getattr(one, "path_regex", None), getattr(one, "endpoint", None)
        if pattern is None:
            continue
        methods = getattr(one, "methods", None)
        inner = getattr(one, "original_route", one)
        below = None if view is not None else tuple(_read(getattr(inner, "routes", None) or ()))
        websocket = "WebSocket" in type(inner).__name__
        yield _Route(pattern, frozenset(methods) if methods else None, websocket, is_no_activity(view), below)
