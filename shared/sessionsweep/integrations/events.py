"""Server-sent events as bytes: an event, the comment that keeps a connection open, the end of a session."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MIMETYPE = "text/event-stream"
#: Proxies that buffer would hold events back (nginx); caches must not keep them.
HEADERS = {"Cache-Control": "private, no-store", "X-Accel-Buffering": "no"}
#: A line that clients ignore: it finds out who has left, and keeps proxies from closing.
KEEP_ALIVE = b": keep-alive\n\n"
SILENCE = 15.0  # s between two of them
FIELDS = ("event", "id", "retry", "data")


def frame(item: Any) -> bytes:
    """One event: bytes as they are, text as its data, a mapping by its fields `event`, `id`, `retry`, `data`.

    What UTF-8 can't hold (half a surrogate pair) goes out as a question mark.

    Raises:
        ValueError: an unknown field, or one other than `data` with a line break, which would forge an event.
    """
    if isinstance(item, bytes):
        return item
    given = item if isinstance(item, Mapping) else {"data": item}
    if unknown := sorted(set(given) - set(FIELDS)):
        raise ValueError(f"an event has no field {unknown[0]!r}; give {', '.join(FIELDS)}")
    lines: list[str] = []
    for name in FIELDS:
        if name not in given:
            continue
        value = given[name]
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        parts = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if name != "data" and (len(parts) > 1 or "\0" in text):
            raise ValueError(f"the field {name!r} of an event must be one line")
        lines.extend(f"{name}: {part}" for part in parts)
    if "event" in given and "data" not in given:
        lines.append("data:")  # without a line of data, browsers tell nobody of it
    return ("\n".join(lines) + "\n\n").encode(errors="replace")


def ended(reason: str) -> bytes:
    """The last event: `event: session-ended`, with the reason of the end as its data."""
    return frame({"event": "session-ended", "data": reason})
