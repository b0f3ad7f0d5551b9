"""The streams that this process holds open: registered while they live, closed here when their session ends anywhere.

A WebSocket, an event stream or a long poll can only be closed by the process that holds its socket. So each process is
a location of its own, with a heartbeat and a queue: whatever ends a session, on any node, puts its streams into the
queues of their processes. One thread per process listens (a published nudge makes it quick, the queue makes it sure),
closes, and acknowledges. A process that dies lets its heartbeat lapse, and any worker closes the books on its streams.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from sessionsweep.deployment import Core, ms, partitions
from sessionsweep.errors import RecordUnreadableError, StoreError
from sessionsweep.model.ids import new_resource_id
from sessionsweep.model.resource import process_location
from sessionsweep.model.states import Outcome
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.protocol import Store

log = logging.getLogger(__name__)

HEARTBEAT = 15.0  # s between two; a process silent for engine.upkeep's PROCESS_SILENCE counts as dead
TICK = 1.0  # s: how soon the thread notices that it is to stop, that a stream has closed or a lingering place lapsed
CLOSING = 5.0  # s that a stream may take to close before the attempt counts as failed and is repeated
BATCH = 200  # streams a lease
LOST = "lost"  # the reason where the store forgot the stream: this process was taken for dead, or writes were lost

_first_use = threading.Lock()  # no process's own state: that is what is replaced under it


def _renew_first_use() -> None:
    global _first_use
    _first_use = threading.Lock()  # a thread that the fork left behind may hold the other one


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_renew_first_use)


@dataclass(eq=False)
class Stream:
    """One open connection of a session.

    `close` is called from the listening thread with the reason of the session's end (`logout`, `idle`, …; `released`
    where only this stream was given up). It begins to close, and answers a future, or None if it is closed already.
    """

    session_id: str
    purpose: str
    close: Callable[[str], Future[None] | None]
    id: str = field(default_factory=new_resource_id)
    location: str = ""
    reason: str | None = None  # why it was closed from elsewhere; None: it wasn't
    registered: bool = False
    _closing: Future[None] | None = None

    def end(self, reason: str) -> Future[None]:
        """Begins to close it. Asked again, it answers what is under way; only what failed is tried once more."""
        if self._closing is None or (self._closing.done() and self._closing.exception() is not None):
            self.reason = self.reason or reason
            self._closing = self._begin_to_close(self.reason)
        return self._closing

    def _begin_to_close(self, reason: str) -> Future[None]:
        done: Future[None] = Future()
        try:
            under_way = self.close(reason)
        except Exception as error:
            log.exception("closing stream %s of session %s failed", self.id, self.session_id)
            done.set_exception(error)
            return done
        if under_way is None:
            done.set_result(None)
        return under_way or done


@dataclass(slots=True)
class _Lingering:
    """A stream that its client dropped a moment ago: its place waits for the same session to come back."""

    stream: Stream
    until: float  # monotonic


@dataclass(slots=True)
class _Closing:
    """A stream that is leased to be closed. The thread goes on: a client that doesn't read holds up nobody."""

    session_id: str
    done: Future[None] | None  # None: its client left, or left a place that lingered
    until: float  # monotonic

    def over(self, now: float) -> bool:
        return self.done is None or self.done.done() or now >= self.until


class Streams:
    """All open streams of one process. Nothing runs before the first is opened; a forked child begins with none."""

    def __init__(self, core: Core, store: Store) -> None:
        self._core = core
        self._store = store
        self._pid = 0
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, Stream] = {}
        self._lingering: dict[str, _Lingering] = {}  # by the stream's id: two tabs of a session leave two places
        self._closing: dict[str, _Closing] = {}  # the thread's own
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._beaten = 0.0  # monotonic; 0: not yet
        self.process = f"{self._core.settings.node}.{os.getpid()}.{secrets.token_hex(4)}"

    # what whoever opens and leaves a stream calls

    def begin(self) -> None:
        """Sees to it that somebody listens; the first call of a process blocks for its heartbeat.

        Raises:
            StoreError: nobody could close a stream, so none must be opened.
        """
        with _first_use:
            if self._pid != os.getpid():  # threads, and the streams of the parent, don't survive a fork
                self._reset()
                self._pid = os.getpid()
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self._stop.clear()
            self._beat()
            self._thread = threading.Thread(target=self._listen, name="sessionsweep-streams", daemon=True)
            self._thread.start()
        if self.stop not in self._core.before_close:
            self._core.before_close.append(self.stop)

    def admit(self, stream: Stream, linger: float = 0.0) -> bool:
        """Takes a stream in before it is registered, after `begin`: what is closed at once must be found here.

        True: it takes over the place that the same session left within its `linger` seconds, and is registered already.
        """
        with self._lock:
            left = self._place_of(stream) if linger else None
            if left is not None:
                del self._lingering[left.id]
                stream.id, stream.registered = left.id, True
            stream.location = process_location(self.process)
            self._open[stream.id] = stream
        return left is not None

    def drop(self, stream: Stream) -> None:
        """It was refused: it never was open."""
        with self._lock:
            self._open.pop(stream.id, None)

    def leave(self, stream: Stream, linger: float = 0.0) -> bool:
        """It is over here. True: its record must be given back now; else the listening thread does so, or has."""
        with self._lock:
            if self._open.pop(stream.id, None) is None:
                return False
            if stream.reason is not None:
                return False  # it was closed from elsewhere, which acknowledges it
            if linger and not self._stop.is_set():
                self._lingering[stream.id] = _Lingering(stream, time.monotonic() + linger)
                return False
        return True

    def give_back_later(self, stream: Stream) -> None:
        """The store didn't take it back: the listening thread tries until it does."""
        with self._lock:
            self._lingering[stream.id] = _Lingering(stream, 0.0)

    def _place_of(self, stream: Stream) -> Stream | None:
        wanted, now = (stream.session_id, stream.purpose), time.monotonic()
        places = (left.stream for left in self._lingering.values() if left.until > now)
        return next((one for one in places if (one.session_id, one.purpose) == wanted), None)

    def mine(self) -> list[Stream]:
        """Those that are open here now."""
        with self._lock:
            return list(self._open.values())

    def gone(self, stream: Stream) -> op.Settle:
        """What tells the store that a stream of a live session is over."""
        attempt = op.Attempt(stream.id, Outcome.DELETED)
        return op.Settle(stream.session_id, stream.location, (attempt,), retention=self._core.retention, own=True)

    def stop(self, timeout: float = 10.0) -> None:
        """Stops listening, waits for it, and gives every place back. What is open stays open; nobody closes it."""
        thread = self._thread
        if self._pid != os.getpid() or thread is None or thread is threading.current_thread():
            return
        self._stop.set()
        thread.join(timeout)
        with self._lock:
            if thread.is_alive() or self._thread is not thread:
                return
            self._thread = None
            self._lingering |= {key: _Lingering(stream, 0.0) for key, stream in self._open.items()}
            self._open.clear()
        try:
            self._settle(process_location(self.process))
            self._give_back(math.inf)
            self._store.execute(op.TableDrop("p", self.process))
        except StoreError as error:  # it lapses with the heartbeat
            log.warning("the end of this process's streams is not written down: %s", error)

    # the thread

    def _listen(self) -> None:
        location, poll = process_location(self.process), min(self._core.settings.cleanup_interval, HEARTBEAT)
        looked, stop = 0.0, self._stop
        while not stop.is_set():
            try:
                for nudge in self._store.nudges([location], TICK):
                    if stop.is_set():
                        return
                    now = time.monotonic()
                    if now - self._beaten >= HEARTBEAT:
                        self._beat()
                        self._verify()
                    if nudge or now - looked >= poll:
                        looked = now
                        self._drain(location)
                    if self._settle(location):
                        looked = 0.0
                    self._give_back(now)
                stop.set()  # the store is closed
            except StoreError as error:
                log.warning("the streams of this process wait for the store: %s", error)
            except Exception:
                log.exception("listening for ended streams failed; it goes on")
            stop.wait(TICK)

    def _beat(self) -> None:
        now = self._store.execute(op.Facts()).now
        self._store.execute(op.TablePut("p", self.process, str(now)))
        self._beaten = time.monotonic()

    def _verify(self) -> None:
        """Closes what the store doesn't know any more. A worker may have taken this process for dead while it slept."""
        by_session: dict[str, list[Stream]] = {}
        for stream in self.mine():
            if stream.registered:
                by_session.setdefault(stream.session_id, []).append(stream)
        questions = [op.Owned(sid, tuple(one.id for one in streams)) for sid, streams in by_session.items()]
        for question, answer in zip(questions, self._store.execute_many(questions), strict=True):
            if isinstance(answer, StoreError):
                continue  # unknown is not gone
            for stream, present in zip(by_session[question.session_id], answer.present, strict=True):
                if not present and self._is_open(stream):
                    log.warning("stream %s of session %s is closed: the store forgot it", stream.id, stream.session_id)
                    stream.end(LOST)

    def _is_open(self, stream: Stream) -> bool:
        with self._lock:
            return self._open.get(stream.id) is stream

    def _drain(self, location: str) -> None:
        for partition in run(partitions(self._core), self._store):
            while True:
                lease = op.Lease(partition, location, secrets.token_hex(8), ms(4 * CLOSING), BATCH)
                entries = self._store.execute(lease).entries
                if not entries:
                    break
                self._close(entries)

    def _close(self, entries: Sequence[tuple[str, tuple[op.LeasedResource, ...]]]) -> None:
        """Begins to close what is leased. `_settle` acknowledges it; the lease outlasts CLOSING."""
        for session_id, leased in entries:
            reason = self._reason(session_id)
            for one in leased:
                if one.resource_id in self._closing:
                    continue  # another stream of its session has ended since
                with self._lock:
                    stream = self._open.get(one.resource_id)
                    # Now, not when it is acknowledged: who takes the place meanwhile would be open in an ended session.
                    self._lingering.pop(one.resource_id, None)
                done = stream.end(reason) if stream is not None else None
                self._closing[one.resource_id] = _Closing(session_id, done, time.monotonic() + CLOSING)

    def _settle(self, location: str) -> bool:
        """Acknowledges what has closed or takes too long. True: a session owes more here than its lease took."""
        now = time.monotonic()
        attempts: dict[str, list[op.Attempt]] = {}
        for resource_id in [key for key, closing in self._closing.items() if closing.over(now)]:
            closing = self._closing.pop(resource_id)
            attempts.setdefault(closing.session_id, []).append(self._attempt(resource_id, closing.done))
        tries, retention = self._core.settings.reclaim_tries, self._core.retention
        settle = [op.Settle(sid, location, tuple(told), tries, retention) for sid, told in attempts.items()]
        known = Counter(closing.session_id for closing in self._closing.values())
        more = False
        for operation, answer in zip(settle, self._store.execute_many(settle), strict=True):
            if isinstance(answer, StoreError):  # its lease runs out, and it is found closed
                log.warning("closed streams of session %s are not acknowledged: %s", operation.session_id, answer)
                continue
            failed = sum(attempt.outcome is Outcome.FAILED for attempt in operation.attempts)
            more |= answer.left > failed + known[operation.session_id]
        return more

    def _reason(self, session_id: str) -> str:
        try:
            peeked = self._store.execute(op.PeekSession(session_id))
        except RecordUnreadableError:
            return "ended"
        return peeked.tombstone.reason if peeked.tombstone is not None and peeked.record is None else "released"

    def _attempt(self, resource_id: str, closing: Future[None] | None) -> op.Attempt:
        if closing is None:
            return op.Attempt(resource_id, Outcome.GONE)
        if not closing.done():
            return op.Attempt(resource_id, Outcome.FAILED, 1000, f"not closed after {CLOSING:.0f} s")
        if closing.exception() is not None:
            return op.Attempt(resource_id, Outcome.FAILED, 1000, f"closing failed: {closing.exception()!r}"[:200])
        with self._lock:
            self._open.pop(resource_id, None)
        return op.Attempt(resource_id, Outcome.DELETED)

    def _give_back(self, now: float) -> None:
        """The places of clients that didn't come back in time."""
        with self._lock:
            over = [key for key, left in self._lingering.items() if left.until <= now]
            lapsed = [self._lingering.pop(key) for key in over]
        answers = self._store.execute_many([self.gone(left.stream) for left in lapsed])
        for left, answer in zip(lapsed, answers, strict=True):
            if isinstance(answer, StoreError):
                log.warning("a stream's place is not given back yet: %s", answer)
                with self._lock:
                    self._lingering[left.stream.id] = left
