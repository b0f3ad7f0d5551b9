"""Starting programs so that none outlives the process that started it, and stopping them.

A child dies with the *thread* that forked it (`PR_SET_PDEATHSIG` is per thread, see prctl(2)). So children
are forked by the main thread, or, when another thread asks, by a keeper thread that lives as long as the
process.
macOS has no such signal: there a killed parent leaves its children (development only).
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import IO

from sessionsweep.errors import ConfigurationError

LAUNCHER = Path(__file__).with_name("launch.py")

Output = int | IO[bytes]
Child = subprocess.Popen[bytes]


class _Keeper:
    """One daemon thread that forks on behalf of threads which may end before the process does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Child], Future[Child]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, job: Callable[[], Child]) -> Child:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="devstack-keeper", daemon=True)
                self._thread.start()
        done: Future[Child] = Future()
        self._jobs.put((job, done))
        return done.result()

    def _serve(self) -> None:
        while True:
            job, done = self._jobs.get()
            try:
                done.set_result(job())
            except BaseException as error:  # the asking thread raises it
                done.set_exception(error)


_keeper = _Keeper()


def _renew_keeper() -> None:
    global _keeper
    _keeper = _Keeper()


os.register_at_fork(after_in_child=_renew_keeper)  # threads don't survive a fork


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes | None = None,
    stdout: Output = subprocess.DEVNULL,
    stderr: Output = subprocess.STDOUT,
    pass_fds: Sequence[int] = (),
) -> Child:
    """Start `argv` in a session and process group of its own, to be killed by the kernel when we die.

    `env` is the child's whole environment (ours if None). `stdin` is written to its standard input, which is
    then closed: the way to hand over secrets, as anybody may read `argv`. At most 64 kB, what a pipe holds.

    Raises:
        ConfigurationError: there is no such program.
    """
    program = shutil.which(argv[0])
    if program is None:
        raise ConfigurationError(f"{argv[0]!r} can't be run here; install it or correct the path.")
    command = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), program, *argv[1:]]

    def start() -> Child:
        return subprocess.Popen(  # noqa: S603  argv comes from our own declarations
            command,
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
        )

    on_main = threading.current_thread() is threading.main_thread()
    child = start() if on_main else _keeper.run(start)
    if stdin is not None and child.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # it is dead already; whoever waits for it will see that
            child.stdin.write(stdin)
            child.stdin.close()
    return child


def kill_group(pid: int, signum: int = signal.SIGKILL) -> None:
    """Send a signal to the group that a spawned child leads; nothing happens if nobody is left in it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signum)


def stop(child: Child, timeout: float = 5.0, signum: int = signal.SIGTERM) -> int:
    """End a child: the signal to it alone, `timeout` seconds to comply, then KILL to its whole group.

    Returns its exit status (negative: the signal). May be called again.
    """
    if child.poll() is None:
        child.send_signal(signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout)
    kill_group(child.pid)
    return child.wait()
