"""How a page learns how long its session lasts, without renewing it: a header, a JSON body, two paths, a script."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

HEADER = "Session-Time-Left"  # whole seconds, rounded down
TIME_LEFT_PATH = "/sessionsweep/time-left"  # GET: never renews
EXTEND_PATH = "/sessionsweep/extend"  # POST: counts as activity
SCRIPT_PATH = "/sessionsweep/warning.js"  # GET: warns before the end and offers to stay
SCRIPT_TYPE = "text/javascript; charset=utf-8"


def header_value(seconds: float) -> str:
    """The header's value; 0 when the session is due."""
    return str(int(seconds))


def body(seconds: float | None) -> dict[str, Any]:
    """What both paths answer: `{"seconds": 812.4}`, or null where there is no session."""
    return {"seconds": None if seconds is None else round(seconds, 3)}


@cache
def script() -> bytes:
    """The script behind SCRIPT_PATH; what it can be told stands at its head. The same for all: caches may keep it."""
    return (files("sessionsweep.integrations") / "static" / "session-warning.js").read_bytes()
