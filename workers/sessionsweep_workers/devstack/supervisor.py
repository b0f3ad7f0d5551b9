"""Running declared processes together: started in stages, again when they die, stopped in reverse order.

One loop in the main thread: it alone gets signals, and children die with the thread that forked them. Nobody
outlives it: children have `PR_SET_PDEATHSIG` and a process group each, and `undertaker.py` kills the groups
of a supervisor that was killed. A program that makes a session of its own would escape; ours don't.
"""

from __future__ import annotations

import contextlib
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from sessionsweep.errors import SessionSweepError

from .logs import LogPrinter
from .process import Phase, Process, ProcessSpec
from .spawn import Child

STOP_WITHIN = 9.0  # seconds from the first signal to the last KILL; the promise is 10
_HASTE = 0.5  # seconds that are left after the second signal
_FIRST_TRIES = 3  # starts that may fail before the whole is given up
_TICK = 0.25  # seconds; only a safety net: signals, output and readiness wake the loop
_PAUSED = 5.0  # seconds between two rounds of the loop that only a stopped process has
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_UNDERTAKER = Path(__file__).with_name("undertaker.py")


class StartError(SessionSweepError):
    """A process could not be brought up; holds its last words."""


class Supervisor:
    """Runs the processes of `specs` until it is told to stop.

    Args:
        specs: what to run; names are unique.
        out: where everything is printed.
        on_ready: called once when all are ready, and again each time that a restarted one is.
        on_stopping: called once when the stop begins, before the first process is told.
        pass_fds: descriptors that every process inherits (a lock that is to be held as long as one lives).
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        *,
        out: TextIO | None = None,
        on_ready: Callable[[], None] = lambda: None,
        on_stopping: Callable[[], None] = lambda: None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._processes = {spec.name: Process(spec) for spec in specs}
        assert len(self._processes) == len(specs), "names must be unique"
        self._stages = sorted({spec.stage for spec in specs})
        self._printer = LogPrinter(out or sys.stdout, [*self._processes, "up"])
        self._on_ready, self._on_stopping = on_ready, on_stopping
        self._pass_fds = tuple(pass_fds)
        self._signals: list[int] = []
        self._ready_names: set[tuple[str, int]] = set()  # reported by the threads that check
        self._all_ready = False
        self._last_step = time.monotonic()
        self._undertaker: Child | None = None

    def pid(self, name: str) -> int | None:
        """The pid of a process's present incarnation."""
        return self._processes[name].pid

    def run(self) -> int:
        """Run until SIGINT, SIGTERM, SIGHUP or until nobody reads our output, then stop everything.

        Returns:
            0 after a clean stop, 1 if a process could not be brought up.

        Raises:
            RuntimeError: not called in the main thread.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("a supervisor runs in the main thread only: it alone gets signals")
        status = 0
        with self._listening():
            try:
                while not self._signals:
                    self._step(time.monotonic())
            except (StartError, BrokenPipeError) as error:
                status = 1 if isinstance(error, StartError) else 0
                self._say(str(error))
            finally:
                self._stop_all()
        return status

    # the loop

    def _step(self, now: float) -> None:
        self._reap(now)
        self._kill_silent(now)
        self._note_readiness(now)
        self._start_due(now)
        self._tend_undertaker()
        # Those of a closed stage don't count: what opens it wakes the loop.
        due = [p.due - now for p in self._waiting()]
        self._wait(max(0.0, min([_TICK, *due])))

    def _wait(self, seconds: float) -> None:
        """Sleep until something happens, and print what the processes say."""
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    self._woken.recv(4096)
            elif (process := key.data).child is None or (lines := process.read()) is None:
                self._selector.unregister(key.fileobj)
            else:
                self._print(process, lines)

    def _start_due(self, now: float) -> None:
        for process in self._waiting():
            if process.due <= now:
                self._selector.register(process.start(now, self._pass_fds), selectors.EVENT_READ, process)
                self._tell_undertaker(f"+{process.pid}")
                if process.spec.ready.check is not None:
                    threading.Thread(
                        target=self._check_until_ready, args=(process, process.generation), daemon=True
                    ).start()

    def _waiting(self) -> list[Process]:
        stage = self._open_stage()
        return [p for p in self._processes.values() if p.phase is Phase.WAITING and p.spec.stage <= stage]

    def _open_stage(self) -> int:
        """The highest stage that may start: all below are ready, or were once (a restart blocks nobody)."""
        if self._all_ready:
            return self._stages[-1]
        waiting = [p.spec.stage for p in self._processes.values() if p.phase is not Phase.READY]
        return min(waiting, default=self._stages[-1])

    def _check_until_ready(self, process: Process, generation: int) -> None:
        """In a thread of its own, as a check may block: ask until it is ready, dead or late."""
        check, pause = process.spec.ready.check, 0.02
        assert check is not None
        while process.phase is Phase.STARTING and process.generation == generation:
            with contextlib.suppress(Exception):
                if check():
                    self._ready_names.add((process.spec.name, generation))
                    self._wake()
                    return
            time.sleep(pause)
            pause = min(pause * 1.3, 0.2)

    def _note_readiness(self, now: float) -> None:
        news = False
        for process in self._processes.values():
            if process.phase is not Phase.STARTING:
                continue
            ready = process.spec.ready
            if (ready.check is None and ready.log is None) or (
                (process.spec.name, process.generation) in self._ready_names
            ):
                self._ready_names.discard((process.spec.name, process.generation))
                process.phase = Phase.READY
                if process.watchdog is not None:
                    process.watchdog.heard = now
                news = True
                if self._all_ready:
                    self._say(f"{process.spec.name} is ready again, pid {process.pid}")
            elif now - process.started > ready.timeout:
                self._say(f"{process.spec.name} was not ready within {ready.timeout:g} s")
                self._bury(process, now)
        if news and all(p.phase is Phase.READY for p in self._processes.values()):
            self._all_ready = True
            self._on_ready()
        elif news and self._all_ready:
            self._on_ready()

    def _reap(self, now: float) -> None:
        for process in self._processes.values():
            if process.phase in (Phase.STARTING, Phase.READY) and process.child is not None:
                status = process.child.poll()
                if status is not None:
                    self._bury(process, now)
                    wait = process.due - now
                    self._say(f"{process.spec.name} ended ({_reason(status)}); again in {wait:.1f} s")

    def _kill_silent(self, now: float) -> None:
        """What hangs is alive and does nothing."""
        paused, self._last_step = now - self._last_step > _PAUSED, now
        for process in self._processes.values():
            silent = process.silent_for(now)
            if silent and paused and process.watchdog is not None:
                process.watchdog.heard = now  # we were stopped ourselves, and it perhaps with us
            elif silent:
                self._say(f"{process.spec.name} hangs: silent for {silent:.0f} s, killed")
                self._bury(process, now)

    def _bury(self, process: Process, now: float) -> None:
        """Clear away a dead or useless incarnation and plan the next, unless it never came up."""
        self._clear_away(process)
        process.died(now)
        if not self._all_ready and process.failures >= _FIRST_TRIES:
            words = "\n".join(f"    {line}" for line in process.last_words)
            raise StartError(f"{process.spec.name} could not be started; its last words:\n{words}")

    def _clear_away(self, process: Process) -> None:
        assert process.child is not None
        if process.child.stdout is not None and not process.child.stdout.closed:
            with contextlib.suppress(KeyError):  # its output ended before it did
                self._selector.unregister(process.child.stdout)
        self._print(process, process.bury())
        self._tell_undertaker(f"-{process.child.pid}")

    # stopping

    def _stop_all(self) -> None:
        """Stage by stage downwards: TERM, wait for a share of the time left, KILL. Goes on past errors."""
        begin = time.monotonic()
        heard = len(self._signals)
        with contextlib.suppress(Exception):
            self._on_stopping()
        for index, stage in reversed(list(enumerate(self._stages))):
            members = [p for p in self._processes.values() if p.spec.stage == stage and p.child is not None]
            for process in members:
                process.signal(signal.SIGTERM)
            now = time.monotonic()
            deadline = now + max(0.0, begin + STOP_WITHIN - now) / (index + 1)
            while any(p.child and p.child.poll() is None for p in members):
                if len(self._signals) > heard:  # the second Ctrl-C
                    begin, heard = time.monotonic() - STOP_WITHIN + _HASTE, sys.maxsize
                    deadline = time.monotonic() + _HASTE / 2
                    self._say("stopping at once")
                if time.monotonic() >= deadline:
                    late = ", ".join(p.spec.name for p in members if p.child and p.child.poll() is None)
                    self._say(f"killed, as it took too long: {late}")
                    break
                with contextlib.suppress(OSError):
                    self._wait(min(0.05, max(0.0, deadline - time.monotonic())))
            for process in members:
                with contextlib.suppress(OSError):
                    self._clear_away(process)
                process.phase = Phase.STOPPED
        if self._undertaker is not None and self._undertaker.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._undertaker.stdin.close()
            self._undertaker.wait()

    # signals, the undertaker, printing

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Signals are noted and wake the loop; SIGCHLD only wakes it."""
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        for sock in (self._woken, self._waker):
            sock.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        before = {s: signal.signal(s, lambda got, frame: self._signals.append(got)) for s in _STOP_SIGNALS}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda signum, frame: None)
        wakeup = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for signum, handler in before.items():
                signal.signal(signum, handler)
            self._selector.close()
            self._woken.close()
            self._waker.close()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it will wake anyway; closed: nobody sleeps
            self._waker.send(b"\0")

    def _tend_undertaker(self) -> None:
        if self._undertaker is not None and self._undertaker.poll() is None:
            return
        if self._undertaker is not None and self._undertaker.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._undertaker.stdin.close()
        self._undertaker = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-S", str(_UNDERTAKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=self._pass_fds,
            start_new_session=True,
            env={},
        )
        for process in self._processes.values():
            if process.phase in (Phase.STARTING, Phase.READY):
                self._tell_undertaker(f"+{process.pid}")

    def _tell_undertaker(self, line: str) -> None:
        if self._undertaker is not None and self._undertaker.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it was killed: the next one is told everything
                self._undertaker.stdin.write(f"{line}\n".encode())
                self._undertaker.stdin.flush()

    def _print(self, process: Process, lines: Sequence[str]) -> None:
        pattern = process.spec.ready.log
        for line in lines:
            if pattern is not None and process.phase is Phase.STARTING and pattern.search(line):
                self._ready_names.add((process.spec.name, process.generation))
                self._wake()
            self._printer.line(process.spec.name, line)

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):
            for line in text.splitlines():
                self._printer.line("up", line)


def _reason(status: int) -> str:
    return f"status {status}" if status >= 0 else signal.Signals(-status).name
