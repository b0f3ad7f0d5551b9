"""One supervised process: how it is declared, and what is known of its present incarnation."""

from __future__ import annotations

import enum
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .logs import LineSplitter
from .readiness import AT_ONCE, Readiness
from .spawn import Child, kill_group, spawn
from .watchdog import Watchdog, watchdog

FIRST_DELAY = 0.5  # seconds before the first restart, then doubled
LONGEST_DELAY = 30.0
STABLE_AFTER = 30.0  # seconds of life after which a death is the first again


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process as data.

    `env` is its whole environment and `stdin` what it reads (secrets stand there, never in `argv`). It is
    started when all of the lower stages are ready, and stopped before they are. One that is ready and doesn't say for
    `silence` seconds that it goes on is killed and started again; None: it need not say so.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    stage: int = 0
    ready: Readiness = AT_ONCE
    stdin: bytes | None = field(default=None, repr=False)
    cwd: Path | None = None
    silence: float | None = None


class Phase(enum.Enum):
    """Where a process is in its life; `supervisor.py` moves it."""

    WAITING = "waiting"  # to be started at `due`
    STARTING = "starting"  # runs, not ready yet
    READY = "ready"
    STOPPED = "stopped"  # for good


def restart_delay(failures: int) -> float:
    """Seconds to wait before the next start after `failures` deaths in a row (1 = the first)."""
    return float(min(FIRST_DELAY * 2 ** min(failures - 1, 16), LONGEST_DELAY))


@dataclass
class Process:
    """A declared process over all its incarnations. `generation` counts them, times are monotonic seconds."""

    spec: ProcessSpec
    phase: Phase = Phase.WAITING
    generation: int = 0
    failures: int = 0
    due: float = 0.0
    started: float = 0.0
    child: Child | None = None
    watchdog: Watchdog | None = None
    lines: LineSplitter = field(default_factory=LineSplitter)
    last_words: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int | None:
        """The pid of the present incarnation."""
        return self.child.pid if self.child is not None else None

    def start(self, now: float, pass_fds: Sequence[int]) -> int:
        """Begin a new incarnation; returns the descriptor of its output, non-blocking.

        Raises:
            ConfigurationError: there is no such program.
        """
        self.watchdog = None if self.spec.silence is None else watchdog(now)
        self.child = spawn(
            self.spec.argv,
            env={**self.spec.env, **({"NOTIFY_SOCKET": self.watchdog.address} if self.watchdog else {})},
            cwd=self.spec.cwd,
            stdin=self.spec.stdin,
            stdout=subprocess.PIPE,
            pass_fds=pass_fds,
        )
        self.phase, self.started = Phase.STARTING, now
        self.generation += 1
        self.lines, self.last_words = LineSplitter(), []
        assert self.child.stdout is not None
        os.set_blocking(self.child.stdout.fileno(), False)
        return self.child.stdout.fileno()

    def read(self) -> list[str] | None:
        """The lines that came since the last call; None when its output has ended."""
        assert self.child is not None
        assert self.child.stdout is not None
        if self.child.stdout.closed:
            return None
        try:
            data = os.read(self.child.stdout.fileno(), 65536)
        except BlockingIOError:
            return []
        lines = self.lines.feed(data) if data else self.lines.flush()
        self.last_words = [*self.last_words, *lines][-10:]
        return lines if data or lines else None

    def signal(self, signum: int) -> None:
        """Send a signal to the process alone: what it started is its own business as long as it lives."""
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(signum)

    def bury(self) -> list[str]:
        """After its death, or to bring it about: kill its whole group, reap it, return its last lines.

        The group, because what it started must not meet its successor on the same port or volume.
        """
        if self.child is None:
            return []
        kill_group(self.child.pid)
        self.child.wait()
        lines: list[str] = []
        for _ in range(100):  # not for ever: somebody who left the group may hold the other end
            if not (more := self.read()):
                break
            lines += more
        if self.child.stdout is not None:
            self.child.stdout.close()
        if self.watchdog is not None:
            self.watchdog.close()
            self.watchdog = None
        self.lines = LineSplitter()
        return lines

    def silent_for(self, now: float) -> float:
        """Seconds for which it has not said that it goes on, where it should have; 0: it has, or need not."""
        if self.watchdog is None or self.spec.silence is None or self.phase is not Phase.READY:
            return 0.0
        self.watchdog.listen(now)
        silent = now - self.watchdog.heard
        return silent if silent > self.spec.silence else 0.0

    def died(self, now: float) -> None:
        """Plan the next start: at once again if this life was long, later and later if not."""
        self.failures = 1 if now - self.started >= STABLE_AFTER else self.failures + 1
        self.phase = Phase.WAITING
        self.due = now + restart_delay(self.failures)
