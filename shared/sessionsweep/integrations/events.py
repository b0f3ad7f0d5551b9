"""Server-sent events as text: an event, the comment that keeps a connection open, the end of a session."""

from __future__ import annotations

MIMETYPE = "text/event-stream"
#: Proxies that buffer would hold events back (nginx); caches must not keep them.
HEADERS = {"Cache-Control": "private, no-store", "X-Accel-Buffering": "no"}
#: A line that clients ignore; it finds out who has left and keeps proxies from closing.
KEEP_ALIVE = ": keep-alive\n\n"
ENDED = "session-ended"


def event(data: str, name: str | None = None, event_id: str | None = None) -> str:
    """One event. A line break in `data` begins another `data:` line; in a name or an id it would forge an event.

    Raises:
        ValueError: the name or the id has a line break.
    """
    fields = []
    for field, value in (("event", name), ("id", event_id)):
        if value is None:
            continue
        if "\n" in value or "\r" in value or "\0" in value:
            raise ValueError(f"an event's {field} is one line, not {value!r}")
        fields.append(f"{field}: {value}")
    lines = data.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join([*fields, *(f"data: {line}" for line in lines)]) + "\n\n"


def ended(reason: str) -> str:
    """The last event: `event: session-ended`, with the reason of the end as its data."""
    return event(reason, ENDED)
