"""The log format of our own workers: one plain line an event, with its fields; no line can be forged by a field."""

from __future__ import annotations

import logging
from typing import Any

from celery.signals import after_setup_logger

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "data"}
_BREAKS = str.maketrans({"\n": "\\n", "\r": "\\r"})


class Fields(logging.Formatter):
    """Appends `extra` fields as `name=value`, on one line whatever they hold (ASVS 16.4.1)."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; a traceback follows on lines of its own."""
        fields = [f"{k}={v}".translate(_BREAKS) for k, v in vars(record).items() if k not in _STANDARD]
        line, *trace = super().format(record).split("\n", 1)
        return "\n".join([" ".join([line, *fields]), *trace])


def connect() -> None:
    """Sets the format when Celery has set up its loggers, with the format it was told. Calling again is harmless."""
    after_setup_logger.connect(_set_format, weak=False, dispatch_uid="sessionsweep.logs")


def _set_format(logger: logging.Logger, **_: Any) -> None:
    for handler in logger.handlers:
        if type(handler.formatter) is not Fields and handler.formatter is not None:
            handler.setFormatter(Fields(handler.formatter._fmt))
