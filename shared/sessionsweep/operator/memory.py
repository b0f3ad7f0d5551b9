"""A server's memory: how full it is, and what happens when it is full."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import redis

from sessionsweep.operator.disks import spare_sessions
from sessionsweep.operator.findings import Code, Finding, failure, ok, unknown, warning
from sessionsweep.settings import Settings
from sessionsweep.units import format_size

log = logging.getLogger(__name__)

FULL, FILLING = 0.9, 0.75  # of a server's memory; the alert rules tell of the first


@dataclass(frozen=True, slots=True)
class Memory:
    """A server's, in bytes. `limit`: its maxmemory, 0: none is set; `machine`: what its machine has, 0: untold."""

    used: int
    limit: int
    machine: int = 0


def read(info: Mapping[str, Any]) -> Memory:
    """From an answer to INFO."""
    return Memory(*(int(info.get(name, 0)) for name in ("used_memory", "maxmemory", "total_system_memory")))


def look(settings: Settings) -> Memory | None:
    """Asks the store's server. None: it is this process's memory, or the server doesn't say."""
    if settings.in_memory:
        return None
    patience = {"socket_timeout": settings.socket_timeout, "socket_connect_timeout": settings.socket_timeout}
    try:
        with contextlib.closing(redis.Redis.from_url(settings.redis_url, **patience)) as client:
            return read(client.info("memory"))
    except (redis.RedisError, OSError, ValueError) as error:
        log.warning("the server's memory can't be told: %s", error)
        return None


def judge(area: str, memory: Memory, idle_timeout: float) -> Iterator[Finding]:
    """Whether something new fits into it. `idle_timeout`: s, the setting's."""
    limit, what = (memory.limit, "maxmemory") if memory.limit else (memory.machine, "the machine's memory")
    if not limit:
        yield unknown(Code.MEMORY, area, f"it uses {format_size(memory.used)}, and doesn't say of how much")
        return
    said = f"it uses {format_size(memory.used)}, {memory.used / limit:.0%} of {what}"
    spare = spare_sessions(idle_timeout)
    room = f"give it more memory (CONFIG SET maxmemory), or end sessions: sessionsweep {spare}"
    if memory.used >= limit:
        yield failure(
            Code.MEMORY, area, said + ": new sessions and files are refused; those that live go on, and end", room
        )
    elif memory.used > FULL * limit:
        yield failure(Code.MEMORY, area, said + ": new sessions and files are refused soon", room)
    elif memory.used > FILLING * limit:
        yield warning(Code.MEMORY, area, said, room)
    else:
        yield ok(Code.MEMORY, area, said)


def judge_policy(area: str, policy: str) -> Iterator[Finding]:
    """Whether the server keeps what it is given when its memory is full."""
    if policy.startswith("allkeys-"):
        yield failure(
            Code.EVICTION,
            area,
            f"its maxmemory-policy is {policy}: full, it drops sessions and what must be cleaned, without a word",
            "CONFIG SET maxmemory-policy noeviction, and in its configuration file",
        )
    elif policy:
        yield ok(Code.EVICTION, area, f"maxmemory-policy {policy}")
