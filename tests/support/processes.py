"""Real local processes for tests: started with a log, waited for, killed, restarted, and never left behind.

`LocalProcess` and `LocalWorker` have the methods that pytest-celery's `CeleryTestNode` and `CeleryTestWorker`
call on a container, so its smoke tests run on processes of this machine instead of on Docker.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from sessionsweep_workers.devstack.spawn import kill_group, spawn, stop

Readiness = Callable[[], bool]
#: Limits of waiting are meant for a machine that has nothing else to do. They bound what has failed, and delay nothing
#: that works: each is so many times as long, so that two suites at once on two cores don't fail each other.
PATIENCE = 4.0


def wait_until(condition: Callable[[], object], timeout: float = 10.0, what: str = "") -> None:
    """Poll until `condition()` is true.

    Raises:
        TimeoutError: it was not within `timeout` seconds (times PATIENCE); `what` says for what we waited.
    """
    deadline = time.monotonic() + timeout * PATIENCE
    pause = 0.005
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout * PATIENCE:g} s: {what or condition}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def process_runs(pid: int) -> bool:
    """Whether a process with this pid exists and isn't a zombie that only waits to be reaped."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def wait_gone(*pids: int, timeout: float = 10.0) -> None:
    """Wait until none of these processes runs.

    Raises:
        TimeoutError: names those that still do.
    """
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: not any(map(process_runs, pids)), timeout)
    left = {}
    for pid in filter(process_runs, pids):
        with contextlib.suppress(OSError):  # it ended meanwhile
            left[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    if left:
        raise TimeoutError(f"still running after {timeout * PATIENCE:g} s: {left}")


def descendants(pid: int) -> set[int]:
    """The pids of a process's children, their children and so on, as they are now."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
    found: set[int] = set()
    layer = {pid}
    while layer:
        layer = {child for child, parent in parents.items() if parent in layer} - found
        found |= layer
    return found


class LocalProcess:
    """One program of this machine, in a process group of its own, that dies with the test process.

    Args:
        name: for messages and the log's file name.
        argv: the program and its arguments; `python` as the first means this interpreter.
        log_dir: the folder for `<name>.log`, to which it prints over all its restarts.
        env: added to the test's environment; a value of None removes the variable.
        ready_when: a text or pattern in the log since the last start, or a function; None: at once.
        ready_timeout: seconds.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log_dir: Path,
        *,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        ready_when: str | re.Pattern[str] | Readiness | None = None,
        ready_timeout: float = 30.0,
        celeryconfig: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.argv = [sys.executable if argv[0] == "python" else argv[0], *argv[1:]]
        self.log_path = log_dir / f"{name}.log"
        self.env = {k: v for k, v in {**os.environ, **(env or {})}.items() if v is not None}
        self.cwd = cwd
        self.ready_when = ready_when
        self.ready_timeout = ready_timeout
        self.celeryconfig = dict(celeryconfig or {})
        self._child: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def start(self, *, wait: bool = True) -> Self:
        """Start it, and wait until it is ready unless told not to.

        Raises:
            TimeoutError: it wasn't ready in time; it is stopped.
            RuntimeError: it ended before it was ready.
        """
        if self.running:
            return self
        if self._child is not None:
            kill_group(self._child.pid)  # what a killed predecessor left must not meet its successor
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            self._child = spawn(self.argv, env=self.env, cwd=self.cwd, stdout=log)
        if wait:
            try:
                self.wait_ready()
            except BaseException:
                self.stop(timeout=0.5)
                raise
        return self

    def wait_ready(self) -> None:
        """Wait for `ready_when`; see `start` for the errors."""

        def check() -> bool:
            if not self.running:
                raise RuntimeError(f"{self.name} ended with {self.returncode} before it was ready:\n{self.tail()}")
            return self._is_ready()

        try:
            wait_until(check, self.ready_timeout)
        except TimeoutError as error:
            raise TimeoutError(f"{self.name} wasn't ready: {error}\n{self.tail()}") from None

    def _is_ready(self) -> bool:
        if self.ready_when is None:
            return True
        if isinstance(self.ready_when, str | re.Pattern):
            return re.search(_pattern(self.ready_when), self.logs(since_start=True)) is not None
        return self.ready_when()

    def wait_for_log(self, what: str | re.Pattern[str], timeout: float = 10.0, after: int = 0) -> re.Match[str]:
        """Wait until the log holds a text or pattern after its first `after` characters; returns the match.

        Raises:
            TimeoutError: it didn't; with the log's end.
        """
        found: list[re.Match[str]] = []

        def look() -> bool:
            match = _pattern(what).search(self.logs(), after)
            found.extend([match] if match else [])
            return match is not None

        try:
            wait_until(look, timeout)
        except TimeoutError as error:
            raise TimeoutError(f"{self.name} didn't log {what!r}: {error}\n{self.tail()}") from None
        return found[0]

    @property
    def pid(self) -> int:
        """The pid of the running process, or of the last one."""
        assert self._child is not None, f"{self.name} was never started"
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self._child.poll() is None

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return None if self._child is None else self._child.poll()

    def send_signal(self, signum: int) -> None:
        """Send a signal to the process alone (SIGSTOP, SIGCONT, SIGTERM…)."""
        os.kill(self.pid, signum)

    def wait(self, timeout: float = 10.0) -> int:
        """Wait until it ended; returns its exit status.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        assert self._child is not None
        return self._child.wait(timeout)

    def stop(self, timeout: float = 10.0) -> None:
        """TERM, then KILL to its whole group after `timeout` seconds. May be called again."""
        if self._child is not None:
            stop(self._child, timeout)

    def tail(self, lines: int = 30) -> str:
        """The end of the log."""
        return "\n".join(self.logs().splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop(timeout=2.0)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.status}>"

    # what pytest-celery calls on a container

    @property
    def id(self) -> str:
        """Stands for a container's id; the same over restarts, as a container's is."""
        return self.name

    @property
    def status(self) -> str:
        """`created`, `running` or `exited`."""
        return "created" if self._child is None else "running" if self.running else "exited"

    def ready(self) -> bool:
        """Start it if needed and wait until it is ready."""
        self.start(wait=False)
        self.wait_ready()
        return True

    def logs(self, *, since_start: bool = False) -> str:
        """What it printed, over all its starts or since the last."""
        if not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start if since_start else 0)
            return log.read().decode(errors="replace")

    def kill(self, signal: str | int = "SIGKILL") -> None:
        """Send a signal (name or number) to its whole group; after KILL, wait until it is gone."""
        signum = signals[signal] if isinstance(signal, str) else signal
        kill_group(self.pid, signum)
        if signum == signals["SIGKILL"]:
            self.wait()

    def reload(self) -> None:
        """Nothing to do: the state of a local process is read when asked for."""

    def restart(self, timeout: float = 10.0) -> None:
        """Stop it (KILL after `timeout` seconds), start it and wait until it is ready."""
        self.stop(timeout)
        self.start()

    def teardown(self) -> None:
        """Stop it for good."""
        self.stop()


class LocalWorker(LocalProcess):
    """A Celery worker of this machine, as pytest-celery's `CeleryTestWorker` expects one."""

    queue = "celery"
    level = "INFO"

    def version(self) -> str:
        """Celery's version: the one that is installed."""
        import celery

        return str(celery.__version__)

    def log_level(self) -> str:
        """The level it was told to log at."""
        return self.level

    def worker_name(self) -> str:
        """The part of its node name before the `@`."""
        return self.name

    def worker_queue(self) -> str:
        """The queue that tests send to when they name none."""
        return self.queue


signals = {member.name: int(member) for member in signal.Signals}


def _pattern(what: str | re.Pattern[str]) -> re.Pattern[str]:
    return re.compile(re.escape(what)) if isinstance(what, str) else what


@contextlib.contextmanager
def local_processes(*processes: LocalProcess) -> Iterator[tuple[LocalProcess, ...]]:
    """All of them, started in order, ready, and stopped in reverse order whatever happens."""
    with contextlib.ExitStack() as stack:
        yield tuple(stack.enter_context(process) for process in processes)
