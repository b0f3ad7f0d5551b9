"""A Redis or Valkey server as the store's or the broker's: version, eviction, persistence, memory, rights, clock."""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import redis

from sessionsweep.operator import memory, persistence
from sessionsweep.operator.findings import Code, Finding, failure, ok, unknown, warning
from sessionsweep.operator.wording import brief
from sessionsweep.settings import redact_url

#: The first release of each branch without the holes in Lua and in blocked clients that were found in 2025 and 2026
#: (CVE-2025-49844, CVE-2025-46817, -46818, -46819; of Valkey also CVE-2026-23479, -23631, -25243).
MENDED: Mapping[str, Mapping[tuple[int, int], tuple[int, int, int]]] = {
    "redis": {
        (6, 2): (6, 2, 20), (7, 2): (7, 2, 11), (7, 4): (7, 4, 6), (8, 0): (8, 0, 4), (8, 2): (8, 2, 2),
        (8, 4): (8, 4, 0), (8, 6): (8, 6, 3),
    },
    "valkey": {(7, 2): (7, 2, 11), (8, 0): (8, 0, 8), (8, 1): (8, 1, 7), (9, 0): (9, 0, 4)},
}  # fmt: skip
OLDEST = (6, 2)  # that the scripts run on
SKEW = 5.0  # seconds between two clocks that nobody notices


def examine(area: str, url: str, timeout: float, idle_timeout: float) -> Iterator[Finding]:
    """What is to be said about the server of that URL. It changes nothing there. `idle_timeout`: s, the setting's."""
    if not url.startswith(("redis://", "rediss://", "unix://")):
        yield unknown(
            Code.ANSWERS, area, f"{redact_url(url)} is no single Redis or Valkey server; only such are examined"
        )
        return
    try:
        with contextlib.closing(
            redis.Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout)
        ) as client:
            before = time.time()
            at = client.time()
            half = (time.time() - before) / 2
            info = client.info()
            yield ok(Code.ANSWERS, area, f"{redact_url(url)} answers within {half * 2000:.1f} ms")
            yield from _version(area, info)
            yield from _memory(area, info, idle_timeout)
            yield from _persistence(area, info)
            yield from _role(area, info)
            yield from _clock(area, at[0] + at[1] / 1e6 - before - half)
            yield from _access(area, url, client)
    except redis.exceptions.NoPermissionError as error:
        yield unknown(Code.ANSWERS, area, f"its user may not ask everything: {error}", "allow it INFO and TIME")
    except (redis.RedisError, OSError, ValueError) as error:
        yield failure(
            Code.ANSWERS,
            area,
            f"{redact_url(url)} can't be used: {str(error).rstrip('.') or type(error).__name__}",
            "start it, or correct its URL, password and TLS; sessions can't be opened until then",
        )


def _version(area: str, info: Mapping[str, Any]) -> Iterator[Finding]:
    name = "valkey" if "valkey_version" in info else "redis"
    text = str(info.get("valkey_version") or info.get("redis_version") or "")
    try:
        numbers = tuple(int(part) for part in text.split(".")[:3])
    except ValueError:
        yield unknown(Code.VERSION, area, f"its version {text!r} can't be read")
        return
    mended = MENDED[name].get(numbers[:2])  # type: ignore[arg-type]
    newest = max(MENDED[name])
    if numbers < OLDEST:
        yield failure(
            Code.VERSION, area, f"{name} {text} is older than 6.2: its scripts lack what is needed", "upgrade it"
        )
    elif mended is not None and numbers < mended:
        wanted = ".".join(map(str, mended))
        yield failure(
            Code.VERSION,
            area,
            f"{name} {text} has known holes (CVE-2025-49844: a script can run any code)",
            f"upgrade it to {wanted}",
        )
    elif mended is None and numbers[:2] < newest:
        yield warning(Code.VERSION, area, f"{name} {text} is of a branch that gets no fixes any more", "upgrade it")
    else:
        yield ok(Code.VERSION, area, f"{name} {text}, no hole known to this release of sessionsweep")


def _memory(area: str, info: Mapping[str, Any], idle_timeout: float) -> Iterator[Finding]:
    yield from memory.judge_policy(area, str(info.get("maxmemory_policy", "")))
    seen = memory.read(info)
    yield from memory.judge(area, seen, idle_timeout)
    if not seen.limit:
        text = "no maxmemory is set, so the kernel ends it where all memory is used"
        yield warning(Code.MEMORY, area, text, "set maxmemory")


def _persistence(area: str, info: Mapping[str, Any]) -> Iterator[Finding]:
    aof = bool(int(info.get("aof_enabled", 0)))
    if failing := persistence.unwritten(info):
        yield from persistence.judge(area, failing)
    elif not aof:
        yield warning(
            Code.PERSISTENCE,
            area,
            "it keeps no append-only file: after a crash it forgets what it was told since the last snapshot, and idle "
            "ends wait",
            "set appendonly yes and appendfsync everysec",
        )
    else:
        yield ok(Code.PERSISTENCE, area, "it keeps an append-only file")


def _role(area: str, info: Mapping[str, Any]) -> Iterator[Finding]:
    if info.get("role") == "slave":
        yield failure(Code.REPLICA, area, "it is a replica, which takes no writes", "give the primary's URL")


def _clock(area: str, ahead: float) -> Iterator[Finding]:
    if abs(ahead) > SKEW:
        which = "ahead of" if ahead > 0 else "behind"
        yield warning(
            Code.CLOCK,
            area,
            f"its clock is {brief(abs(ahead))} {which} this node's: files look older or younger than they are",
            "let chrony or systemd-timesyncd set both",
        )
    else:
        yield ok(Code.CLOCK, area, f"its clock and this node's differ by {abs(ahead):.1f} s")


def _access(area: str, url: str, client: Any) -> Iterator[Finding]:
    parts = urlsplit(url)
    near = parts.scheme == "unix" or _is_loopback(parts.hostname or "localhost")
    if not near and parts.scheme == "redis":
        yield warning(
            Code.ACCESS, area, f"{parts.hostname} is spoken to without TLS", "use rediss://, or a private network"
        )
    if not parts.password:
        if not near:
            yield failure(Code.ACCESS, area, "it asks for no password", "set one for each role: deploy/redis/acl.sh")
        return
    with contextlib.suppress(redis.RedisError):
        if client.acl_whoami() in (b"default", "default"):
            yield warning(
                Code.ACCESS,
                area,
                "all processes are the same user, `default`, who may do anything",
                "make a user for each role: deploy/redis/acl.sh",
            )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
