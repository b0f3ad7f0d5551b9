"""Server-sent events of a generator: registered while they last, closed when their session ends.

The generator runs in a thread of its own, because the server's thread must go on: it sends a comment while the
generator is silent, and the last event at once when the session ends.
"""

from __future__ import annotations

import logging
import threading
from _thread import start_new_thread
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from contextvars import copy_context
from typing import Any
from weakref import WeakMethod, finalize

from sessionsweep.errors import StoreError
from sessionsweep.integrations import events
from sessionsweep.sessions.sync import Session

log = logging.getLogger(__name__)


class EventStream(Iterator[bytes]):
    """The body of a WSGI response: the server iterates over it, and calls `close` when the response is over.

    Text is an event's data, a mapping its fields, bytes go out as they are, None is skipped. The source runs in the
    context of whoever made this. While it is silent, a comment every `keep_alive` seconds finds out who has left.
    Its place is given back when the source's thread has ended: the limit of streams is one of threads, too.

    Raises:
        SessionEndedError, LimitReachedError, StoreError: it can't be registered.
    """

    def __init__(self, session: Session, source: Iterable[Any], purpose: str, keep_alive: float, linger: float) -> None:
        self._source = source
        self._keep_alive = keep_alive
        self._context = copy_context()
        self._changed = threading.Condition()
        self._ready: bytes | None = None  # one event: the generator waits for the client to take it
        self._error: BaseException | None = None
        self._reason: str | None = None  # why the session ended
        self._started = self._exhausted = self._over = False
        self._closed: Future[None] = Future()
        self._registration = ExitStack()
        end = WeakMethod(self._end)  # a stream that a view made and dropped must not be kept by its registration

        def close(reason: str) -> Future[None] | None:
            known = end()
            return None if known is None else known(reason)

        self._registration.enter_context(session.stream(purpose, close=close, linger=linger))
        # A view that fails after it made the stream: nobody closes it. What gives it back must not be garbage itself.
        self._dropped = finalize(self, _give_back_elsewhere, self._registration)
        self._dropped.atexit = False

    def __next__(self) -> bytes:
        with self._changed:
            if self._over:
                raise StopIteration
            if not self._started:
                threading.Thread(
                    target=self._context.run, args=(self._pump,), name="sessionsweep-events", daemon=True
                ).start()
                self._started = True  # not before: where no thread can be had, none will give the stream back
            self._changed.wait_for(self._has_news, self._keep_alive)
            if self._reason is not None:  # before any event that is ready: nothing of an ended session goes out
                self._over = True
                return events.ended(self._reason)
            if self._ready is not None:
                chunk, self._ready = self._ready, None
                self._changed.notify_all()
                return chunk
            if not self._exhausted:
                return events.KEEP_ALIVE
            self._over = True
            if self._error is not None:
                raise self._error
            raise StopIteration

    def close(self) -> None:
        """The response is over: the generator is closed at its next item, then the stream is given back. Idempotent."""
        with self._changed:
            if self._closed.done():
                return
            self._over = True
            self._changed.notify_all()
            self._closed.set_result(None)
            running = self._started and not self._exhausted
        if not self._started:
            self._close_source()
        if not running:
            self._give_back()

    def _end(self, reason: str) -> Future[None]:
        """Called by the listening thread; done when the server has sent the last event and closed the response."""
        with self._changed:
            self._reason = reason
            self._changed.notify_all()
        return self._closed

    def _has_news(self) -> bool:
        return self._ready is not None or self._exhausted or self._reason is not None or self._over

    def _pump(self) -> None:
        try:
            for item in self._source:
                if item is not None and not self._offer(events.frame(item)):
                    break
                if self._over:
                    break
        except BaseException as error:
            self._error = error
        finally:
            self._close_source()
            with self._changed:
                self._exhausted = True
                self._changed.notify_all()
                over = self._closed.done()
            if over:
                self._give_back()

    def _offer(self, chunk: bytes) -> bool:
        """Waits until the event before it is taken. False: nobody takes any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready is None or self._over)
            if self._over:
                return False
            self._ready = chunk
            self._changed.notify_all()
            return True

    def _give_back(self) -> None:
        if self._dropped.detach() is not None:
            _give_back(self._registration)

    def _close_source(self) -> None:
        close = getattr(self._source, "close", None)
        if close is not None:
            try:
                close()
            except Exception:
                log.exception("closing the generator of an event stream failed")


def _give_back(registration: ExitStack) -> None:
    try:
        registration.close()
    except StoreError as error:
        log.warning("a stream that is over is not given back yet: %s", error)


def _give_back_elsewhere(registration: ExitStack) -> None:
    """The collector may run inside any line, also of a thread that holds a lock for which giving back would wait."""
    with suppress(RuntimeError):  # the interpreter ends
        start_new_thread(_give_back, (registration,))  # `Thread.start` would wait for it
