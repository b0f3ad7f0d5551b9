"""Events as log records: one logger, constant names as messages, the fields as `extra`."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from sessionsweep.model.events import Event

NAME = "sessionsweep.events"
LEVEL = logging.INFO
_log = logging.getLogger(NAME)
#: What a record has already: logging refuses an `extra` that would overwrite it.
_TAKEN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def listens() -> bool:
    """Whether the logger takes events now: levels may change while a process runs."""
    return _log.isEnabledFor(LEVEL)


def tell(event: Event) -> None:
    """One record. Its message is the event's name; what strangers wrote stands in fields only."""
    _log.log(LEVEL, "%s", event.name, extra=fields(event))


def fields(event: Event) -> dict[str, Any]:
    """What the record carries besides its message; `at` in ISO 8601, UTC."""
    told: dict[str, Any] = {
        "event_id": event.id,
        "at": datetime.fromtimestamp(event.at / 1000, UTC).isoformat(timespec="milliseconds"),
    }
    if event.session_id is not None:
        told["session_id"] = event.session_id
    if event.resource_id is not None:
        told["resource_id"] = event.resource_id
    for name, value in event.fields.items():
        told[f"{name}_" if name in _TAKEN or name in told else name] = value
    return told
