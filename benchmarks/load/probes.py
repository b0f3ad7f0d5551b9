"""What the kernel and the server say of a running deployment: memory, descriptors, threads, processor time, keys."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import redis

from benchmarks.load.deployed import Side

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Look:
    """One look at one process: `at` and `cpu` in seconds, `rss` in bytes."""

    at: float
    role: str
    pid: int
    rss: int
    fds: int
    threads: int
    cpu: float


@dataclass(frozen=True, slots=True)
class StoreLook:
    """One look at the server. `owed`: sessions whose files wait to be deleted, over all queues."""

    at: float
    used_memory: int
    keys: int
    owed: int
    pid: int


@dataclass
class Looks:
    """All looks of a run."""

    processes: list[Look] = field(default_factory=list)
    store: list[StoreLook] = field(default_factory=list)

    def of(self, role: str) -> list[Look]:
        """One role's, in order."""
        return [look for look in self.processes if look.role == role]

    @property
    def roles(self) -> list[str]:
        """In the order in which they were first seen."""
        return list(dict.fromkeys(look.role for look in self.processes))


def look_at(role: str, pid: int, at: float) -> Look | None:
    """None: it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        rss = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
        fds = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None
    if not rss:  # a zombie
        return None
    return Look(at, role, pid, rss, fds, int(fields[17]), (int(fields[11]) + int(fields[12])) / _TICKS)


def cpu_seconds(side: Side) -> dict[str, float]:
    """Processor time by role since each process began."""
    found = (look_at(role, pid, 0.0) for role, pid in side.pids().items())
    return {look.role: look.cpu for look in found if look is not None}


def look_at_store(client: redis.Redis, at: float) -> StoreLook | None:
    """None: it doesn't answer."""
    try:
        with client.pipeline(transaction=False) as pipe:
            pipe.info("server")
            pipe.info("memory")
            pipe.dbsize()
            pipe.keys("ss:{*}:q:*")  # one for each location: a handful
            server, memory, keys, queues = pipe.execute()
        owed = sum(int(client.zcard(queue)) for queue in queues)
    except (redis.RedisError, OSError):
        return None
    return StoreLook(at, int(memory["used_memory"]), int(keys), owed, int(server["process_id"]))


def families(client: redis.Redis) -> dict[str, int]:
    """How many keys of each family there are: `s`, `r`, `t` …, and those outside a partition by their name."""
    found: Counter[str] = Counter()
    for key in client.scan_iter(count=1000):
        parts = key.decode(errors="replace").split(":")
        found[parts[2] if len(parts) > 2 and parts[1].startswith("{") else ":".join(parts[:2])[:40]] += 1
    return dict(sorted(found.items()))


#: Families whose keys are there as long as a session, a file or a debt is.
LIVING = ("s", "r", "i", "q", "dl")


def living_keys(found: Mapping[str, int]) -> int:
    """How many of `families` there are as long as something is."""
    return sum(found.get(name, 0) for name in LIVING)


class Sampler(threading.Thread):
    """Looks every `every` seconds until it is closed."""

    def __init__(self, side: Side, every: float) -> None:
        super().__init__(name="sampler", daemon=True)
        self.looks = Looks()
        self._side, self._every = side, every
        self._closed = threading.Event()
        # a client of its own, which waits for nobody
        self._client: redis.Redis = redis.Redis.from_url(side.server.url, socket_timeout=2, retry=None)
        self._begun = time.monotonic()

    def run(self) -> None:
        """The thread."""
        while not self._closed.wait(self._every):
            self.look()

    def look(self) -> None:
        """Once."""
        at = round(time.monotonic() - self._begun, 2)
        for role, pid in self._side.pids().items():
            if look := look_at(role, pid, at):
                self.looks.processes.append(look)
        if seen := look_at_store(self._client, at):
            self.looks.store.append(seen)

    def close(self) -> Looks:
        """Ends it; everything it saw."""
        self._closed.set()
        self.join()
        self._client.close()
        return self.looks
