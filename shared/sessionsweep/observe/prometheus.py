"""What this process measures, as Prometheus' metrics: beside an app's own, and added up over forked workers.

Only counters and histograms: they add up over processes, and stay true when one of them dies.
"""

from __future__ import annotations

import functools
import os
import stat
import threading
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, values
from prometheus_client.multiprocess import MultiProcessCollector

from sessionsweep.errors import ConfigurationError
from sessionsweep.observe import mapped
from sessionsweep.observe.meter import Measured

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
#: Seconds. One round trip takes under one; a pass has a budget of 20.
QUICK = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5)
SLOW = (0.01, 0.1, 0.5, 2, 10, 30)


class _HasCore(Protocol):
    @property
    def core(self) -> Measured: ...


def measure(sessions: _HasCore, registry: CollectorRegistry = REGISTRY) -> None:
    """Measures what these Sessions (or AsyncSessions) do from now on; `METRICS=1` does it for whole processes.

    Raises:
        ConfigurationError: PROMETHEUS_MULTIPROC_DIR can't be used, or was set too late.
    """
    sessions.core.meter = meter(registry)


@functools.cache
def meter(registry: CollectorRegistry = REGISTRY) -> PrometheusMeter:
    """The meter of a registry, in which its names can stand once. Raises ConfigurationError, as `measure`."""
    return PrometheusMeter(registry)


def exposed() -> CollectorRegistry:
    """What to serve as /metrics: of all processes that share PROMETHEUS_MULTIPROC_DIR, or of this one without it.

    Raises:
        ConfigurationError: as `measure`.
    """
    if not shares():
        return REGISTRY
    made = CollectorRegistry()
    MultiProcessCollector(made)  # type: ignore[no-untyped-call]
    return made


def shares() -> bool:
    """Whether this process's figures are added to those of others. Makes the folder for them if it isn't there.

    Raises:
        ConfigurationError: the folder can't be used, or was named too late.
    """
    folder = os.environ.get(FOLDER)
    if not folder:
        return False
    if not values.ValueClass._multiprocess:
        raise ConfigurationError(
            f"{FOLDER} was set after prometheus_client was imported, which reads it once; set it in the environment "
            "that the process starts with"
        )
    why = _unfit(Path(folder))
    if why:
        raise ConfigurationError(f"{FOLDER}={folder!r} can't be used: {why}")
    mapped.install()
    return True


def _unfit(folder: Path) -> str:
    """Why these figures can't lie there; makes it. Files get names that anybody can guess, and links are followed."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = os.lstat(folder)
    except OSError as error:
        return f"{error.strerror}; name a folder of its own"
    if not stat.S_ISDIR(found.st_mode):
        return "it is a link; name the folder itself"
    if found.st_uid != os.geteuid():
        return (
            f"it belongs to user {found.st_uid}, and this process runs as user {os.geteuid()}; name one that isn't "
            "there yet (below a mount point, for example): it is made, with mode 0700"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write into it (mode {stat.S_IMODE(found.st_mode):04o}); chmod 0700 it"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"this process can't write into it (mode {stat.S_IMODE(found.st_mode):04o}); chmod 0700 it"
    return ""


class PrometheusMeter:
    """A `Meter`. Labels come from the code, from settings' names and from configured volumes, never from clients."""

    def __init__(self, registry: CollectorRegistry) -> None:
        shares()
        made: dict[str, Any] = {"namespace": "sessionsweep", "registry": registry}
        self._operations = Counter(
            "operations", "Calls of the library that weren't cancelled, by outcome.", ("operation", "outcome"), **made
        )
        # looking for labels takes as long as counting
        self._found: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        what = "How long they took, their round trips to the store included."
        self._seconds = Histogram("operation_seconds", what, ("operation",), buckets=QUICK, **made)
        self._limits = Counter("limits_hit", "What a limit refused, by the limit's setting.", ("limit",), **made)
        self._files = Counter("files_written", "Files written and committed.", **made)
        self._bytes = Counter("file_written_bytes", "Bytes of those files.", **made)
        what = "How long passes worked between two rests."
        self._batches = Histogram("batch_seconds", what, ("task",), buckets=QUICK, **made)
        what = "How long passes took, their rests included."
        self._passes = Histogram("pass_seconds", what, ("task",), buckets=SLOW, **made)
        what = "Resources that a worker took on, by what became of them."
        self._reclaimed = Counter("reclaimed", what, ("volume", "outcome"), **made)
        self._freed = Counter("reclaimed_bytes", "Bytes that it freed.", ("volume",), **made)
        # A fork copies prometheus_client's locks as they are. Nobody of ours is inside one while a process forks: a
        # child would else wait for ever for a thread that it doesn't have.
        self._lock = threading.Lock()
        os.register_at_fork(
            before=self._lock.acquire, after_in_parent=self._lock.release, after_in_child=self._lock.release
        )

    def operation(self, name: str, outcome: str, seconds: float) -> None:
        """See Meter."""
        with self._lock:
            found = self._found.get((name, outcome))
            if found is None:
                found = self._found[name, outcome] = self._operations.labels(name, outcome), self._seconds.labels(name)
            count, times = found
            count.inc()
            times.observe(seconds)

    def limit(self, name: str) -> None:
        """See Meter."""
        with self._lock:
            self._limits.labels(name).inc()

    def file(self, size: int) -> None:
        """See Meter."""
        with self._lock:
            self._files.inc()
            self._bytes.inc(size)

    def batch(self, name: str, seconds: float) -> None:
        """See Meter."""
        with self._lock:
            self._batches.labels(name).observe(seconds)

    def ran(self, name: str, seconds: float) -> None:
        """See Meter."""
        with self._lock:
            self._passes.labels(name).observe(seconds)

    def reclaimed(self, volume: str, outcomes: dict[str, int], size: int) -> None:
        """See Meter."""
        with self._lock:
            for outcome, count in outcomes.items():
                if count:
                    self._reclaimed.labels(volume, outcome).inc(count)
            if size:
                self._freed.labels(volume).inc(size)
