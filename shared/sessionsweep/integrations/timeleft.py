"""How a page learns how long its session lasts, without renewing it: one header, one JSON body, two paths."""

from __future__ import annotations

from typing import Any

HEADER = "Session-Time-Left"  # whole seconds, rounded down
TIME_LEFT_PATH = "/sessionsweep/time-left"  # GET: never renews
EXTEND_PATH = "/sessionsweep/extend"  # POST: counts as activity


def header_value(seconds: float) -> str:
    """The header's value; 0 when the session is due."""
    return str(int(seconds))


def body(seconds: float | None) -> dict[str, Any]:
    """What both paths answer: `{"seconds": 812.4}`, or null where there is no session."""
    return {"seconds": None if seconds is None else round(seconds, 3)}
