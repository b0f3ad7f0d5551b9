"""Whether a server can write what it is told to its disk: one that can't refuses every write, deleting as well."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import redis

from sessionsweep.operator.findings import Code, Finding, failure
from sessionsweep.settings import Settings

log = logging.getLogger(__name__)

#: What a server writes, and INFO's word on the last time.
FILES = {"aof": "aof_last_write_status", "snapshot": "rdb_last_bgsave_status"}
_NAMES = {"aof": "its AOF", "snapshot": "its last snapshot"}


def unwritten(info: Mapping[str, Any]) -> tuple[str, ...]:
    """From an answer to INFO: those of FILES that it could not write the last time."""
    return tuple(name for name, field in FILES.items() if info.get(field, "ok") != "ok")


def look(settings: Settings) -> tuple[str, ...] | None:
    """Asks the store's server. None: it is this process's memory, or the server doesn't say."""
    if settings.in_memory:
        return None
    patience = {"socket_timeout": settings.socket_timeout, "socket_connect_timeout": settings.socket_timeout}
    try:
        with contextlib.closing(redis.Redis.from_url(settings.redis_url, **patience)) as client:
            return unwritten(client.info("persistence"))
    except (redis.RedisError, OSError, ValueError) as error:
        log.warning("whether the server can write to its disk can't be told: %s", error)
        return None


def judge(area: str, files: tuple[str, ...]) -> Iterator[Finding]:
    """Nothing where all was written."""
    if files:
        # of a snapshot it is a setting, and the default
        perhaps = "" if "aof" in files else "unless stop-writes-on-bgsave-error is no, "
        yield failure(
            Code.PERSISTENCE,
            area,
            f"{' and '.join(_NAMES[name] for name in files)} could not be written: {perhaps}it takes no writes, so no "
            "session is opened, ended or cleaned until its disk takes them",
            "make room on the disk of its data folder (dir), and see its log; it goes on by itself. See "
            "docs/operations.md: the disk of Redis is full",
        )
