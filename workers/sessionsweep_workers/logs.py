"""The log format of our own processes: one plain line an event, with its fields; no line can be forged."""

from __future__ import annotations

import logging
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "data"}
# what begins a line or steers a terminal: control characters, Unicode's own line breaks and its changes of direction
_CONTROLS = (*range(32), *range(127, 160), 0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_BREAKS = str.maketrans({c: repr(chr(c))[1:-1] for c in _CONTROLS if c != 9})


class Fields(logging.Formatter):
    """Appends `extra` fields as `name=value`, on one line whatever they hold (ASVS 16.4.1)."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The line: texts of strangers (a task's id, a user's name) stand in the message as well as in fields."""
        fields = [f"{k}={v}" for k, v in vars(record).items() if k not in _STANDARD]
        return " ".join([super().formatMessage(record), *fields]).translate(_BREAKS)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """The traceback, indented: no line of it, which an error's text may hold, looks like a line of the log."""
        return "\n".join(f"    {line.translate(_BREAKS)}" for line in super().formatException(ei).split("\n"))


def connect() -> None:
    """Sets the format when Celery has set up its loggers, with the format it was told. Calling again is harmless."""
    from celery.signals import after_setup_logger  # web nodes have the format without Celery

    after_setup_logger.connect(_set_format, weak=False, dispatch_uid="sessionsweep.logs")


def _set_format(logger: logging.Logger, **_: Any) -> None:
    for handler in logger.handlers:
        if type(handler.formatter) is not Fields and handler.formatter is not None:
            handler.setFormatter(Fields(handler.formatter._fmt))
