"""Events as log records: one logger, constant names as messages, the fields as `extra`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from sessionsweep.model.events import Event
from sessionsweep.units import moment

NAME = "sessionsweep.events"
LEVEL = logging.INFO
_log = logging.getLogger(NAME)
_complaints = logging.getLogger(__name__)
REPEAT = 60.0  # seconds between two tracebacks
_silent_until = 0.0


@lru_cache(maxsize=4)
def _taken(factory: Callable[..., logging.LogRecord]) -> frozenset[str]:
    """What a record of this factory has already: logging refuses an `extra` that would overwrite it."""
    made = factory("", LEVEL, "", 0, "", (), None)
    return frozenset(vars(made)) | {"message", "asctime", "taskName"}


def listens() -> bool:
    """Whether the logger takes events now: levels may change while a process runs."""
    return _log.isEnabledFor(LEVEL)


def tell(event: Event) -> None:
    """One record. Its message is the event's name; what strangers wrote stands in fields only.

    An app's logging that raises (a filter, a factory of records) loses this record, and no other listener its event.
    """
    global _silent_until
    try:
        _log.log(LEVEL, "%s", event.name, extra=fields(event))
    except Exception:
        now = time.monotonic()
        if now >= _silent_until:
            _silent_until = now + REPEAT
            _complaints.exception("logging an event failed at %s (told at most once a minute)", event.name)


def fields(event: Event) -> dict[str, Any]:
    """What the record carries besides its message; `at` in ISO 8601, UTC."""
    about: list[tuple[str, Any]] = [("event_id", event.id), ("at", moment(event.at).isoformat(timespec="milliseconds"))]
    about += [("session_id", event.session_id)] if event.session_id is not None else []
    about += [("resource_id", event.resource_id)] if event.resource_id is not None else []
    taken = _taken(logging.getLogRecordFactory())
    told: dict[str, Any] = {}
    for name, value in (*about, *event.fields.items()):
        told[f"{name}_" if name in taken or name in told else name] = value
    return told
