"""Celery's programs as `up` runs them: they say when they are ready, what was done, and what is wrong; no more.

`python -m sessionsweep_workers.devstack.quiet …` takes what `celery …` takes. Warnings and errors of everybody are
shown; with `up --verbose` Celery's own command runs instead.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from sessionsweep.units import format_size

READY = "ready."
#: What a pass may have done that somebody wants to see. That it looked, and found nothing, is no news.
NEWS = (
    "ended", "idle", "expired", "owed", "intents", "would_end", "deleted", "gone", "busy", "failed", "dead",
    "would_delete", "destroyed", "candidates", "readopted", "missing", "mended", "unreadable",
    "would_destroy",
)  # fmt: skip

log = logging.getLogger(__name__)


def news(result: object) -> str:
    """What a pass did, in words: `deleted 2, 22.72 kB`; nothing if it did nothing."""
    if not isinstance(result, Mapping):
        return ""
    told = [f"{name.replace('_', ' ')} {result[name]}" for name in NEWS if result.get(name)]
    if told and result.get("bytes"):
        told.append(format_size(int(result["bytes"])))
    return ", ".join(told)


def main() -> None:
    """Run Celery's command, quietly."""
    from celery import signals
    from celery.__main__ import main as celery

    # `up` says so once; Celery would in seven lines for each worker
    warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
    for started in (signals.worker_ready, signals.beat_init):
        started.connect(_ready, weak=False)
    signals.task_success.connect(_done, weak=False)
    for name in (__name__, "sessionsweep_workers.keeper"):
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger("sessionsweep_workers.keeper").addFilter(_tells_news)
    sys.argv[0] = "celery"
    celery()


def _ready(**_: Any) -> None:
    log.info(READY)


def _done(sender: Any = None, result: object = None, **_: Any) -> None:
    if told := news(result):
        log.info("%s: %s", getattr(sender, "name", "a task").removeprefix("sessionsweep."), told)


def _tells_news(record: logging.LogRecord) -> bool:
    """Passes that the keeper runs by itself tell their result as a field."""
    return record.levelno > logging.INFO or bool(news(getattr(record, "result", None)))


if __name__ == "__main__":
    main()
