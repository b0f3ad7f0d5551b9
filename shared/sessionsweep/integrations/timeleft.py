"""How long a session lasts, told to its client: a response header, and the JSON of the time-left endpoint."""

from __future__ import annotations

import math
from typing import Any

#: The usual name of the header; it is sent only where an app asks for it.
HEADER = "X-Session-Time-Left"


def header_value(seconds: float) -> str:
    """Whole seconds, rounded down: a client that trusts it is never late."""
    return str(max(0, math.floor(seconds)))


def body(seconds: float | None) -> dict[str, Any]:
    """What the endpoint answers; None: there is no session."""
    return {"seconds": None if seconds is None else round(max(0.0, seconds), 3)}
