"""One shared connection of one event loop: what waits in a tick goes out together, replies come in order.

Cancelling a waiter never cancels what was sent: its reply is read and dropped, so no later caller can receive it
(redis-py CVE-2023-28858 was that). When the connection breaks, every unanswered call is told so or, where a repeat
is harmless, sent again on the next connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Any

import hiredis
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from sessionsweep.errors import StoreError
from sessionsweep.store.redis import replies, scripts
from sessionsweep.store.redis.resp import pack

#: So many calls go out at once, without waiting for the tick's end: the server works on them while the next are made.
EARLY = 16
_MORE = object()


class Call:
    """One command on its way: its bytes, whom to answer, and what to do when the answer is lost."""

    __slots__ = ("answer", "deadline", "loaded", "packed", "repeatable", "script", "sent")

    def __init__(
        self, packed: bytes, answer: asyncio.Future[Any], script: str, repeatable: bool, deadline: float
    ) -> None:
        self.packed = packed
        self.answer = answer
        self.script = script
        self.repeatable = repeatable
        self.deadline = deadline
        self.loaded = False  # its script was, because the server didn't have it
        self.sent = 0

    def fail(self, error: StoreError) -> None:
        """Tells the waiter, unless it was cancelled."""
        if not self.answer.done():
            self.answer.set_exception(error)


class Stream(asyncio.Protocol):
    """Reads one connection's replies as they arrive and hands each to the call that waits for it."""

    def __init__(self, link: Link, unanswered: deque[Call]) -> None:
        self._link: Link | None = link
        self._unanswered = unanswered
        self._replies = hiredis.Reader(notEnoughData=_MORE)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        link, replies_, unanswered = self._link, self._replies, self._unanswered
        if link is None:
            return
        try:
            replies_.feed(data)
            while (reply := replies_.gets()) is not _MORE:
                call = unanswered.popleft()
                if type(reply) is hiredis.ReplyError:
                    link.refused(call, reply)
                elif not call.answer.done():  # else its waiter was cancelled: the reply is dropped
                    call.answer.set_result(reply)
        except (hiredis.ProtocolError, IndexError) as error:
            self.connection_lost(error)

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol."""
        link, self._link = self._link, None
        if link is not None:
            link.lost(error or ConnectionError("the server closed the connection"))

    def detach(self) -> None:
        """Nothing that still arrives on this connection reaches anybody."""
        self._link = None


class Link:
    """The connection of one event loop; made on first use, made again when it breaks."""

    def __init__(self, url: str, timeout: float, test_clock: str | None) -> None:
        options: dict[str, Any] = {
            "socket_connect_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "client_name": "sessionsweep",
        }
        pool = ConnectionPool.from_url(url, **options)
        self._make = pool.connection_class
        self._kwargs = {k: v for k, v in pool.connection_kwargs.items() if not k.startswith("maint_")}
        self._timeout = timeout
        self._test_clock = test_clock
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Call] = deque()
        self._unanswered: deque[Call] = deque()
        self._writer: asyncio.StreamWriter | None = None
        self._stream: Stream | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._flush_scheduled = False
        self._deadline = 0.0  # of the calls of this tick
        self._watchdog: asyncio.TimerHandle | None = None
        self._closed = False

    def call(self, packed: bytes, script: str, repeatable: bool) -> asyncio.Future[Any]:
        """Queues a command for this tick's write; the future gets the raw reply or a StoreError."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        if self._closed:
            answer.set_exception(replies.closed())
            return answer
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush_tick)
            self._deadline = self._loop.time() + self._timeout
        self._waiting.append(Call(packed, answer, script, repeatable, self._deadline))
        if len(self._waiting) >= EARLY and self._writer is not None:
            self._flush()
        return answer

    async def close(self) -> None:
        """Closes the connection; what is unanswered is told so. Idempotent."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        self._break(ConnectionError("the store was closed"), again=False)
        await asyncio.sleep(0)

    def _flush_tick(self) -> None:
        self._flush_scheduled = False
        self._flush()

    def _flush(self) -> None:
        if self._writer is None:
            if self._connecting is None and not self._closed:
                self._connecting = self._loop.create_task(self._connect())
            return
        waiting, unanswered, packed = self._waiting, self._unanswered, []
        while waiting:
            call = waiting.popleft()
            if not call.answer.cancelled():
                call.sent += 1
                unanswered.append(call)
                packed.append(call.packed)
        if packed:
            self._writer.write(b"".join(packed))
            if self._watchdog is None:
                self._watchdog = self._loop.call_at(unanswered[0].deadline, self._watch)

    async def _open(self) -> asyncio.StreamWriter:
        connection = self._make(**self._kwargs)
        async with asyncio.timeout(self._timeout):
            await connection.connect()  # type: ignore[no-untyped-call]
        reader, writer = connection._reader, connection._writer
        if reader is None or writer is None:
            raise ConnectionError("the connection closed while it was made")
        connection._reader = connection._writer = None  # the link's from now on; else `__del__` warns about them
        return writer

    async def _connect(self) -> None:
        try:
            writer = await self._open()
        except Exception as error:  # whatever it is: nobody may wait for ever
            waiting, self._waiting = self._waiting, deque()
            for call in waiting:
                # sent before and sent again in vain: its outcome is unknown, not "nothing was done"
                call.fail(replies.cut(error) if call.sent else replies.unreachable(error))
            return
        finally:
            self._connecting = None
        self._unanswered = deque()
        self._writer, self._stream = writer, Stream(self, self._unanswered)
        writer.transport.set_protocol(self._stream)  # replies reach their calls without a reader's task in between
        self._flush()

    def refused(self, call: Call, reply: hiredis.ReplyError) -> None:
        """The server answered a call with an error."""
        if call.script and not call.loaded and replies.is_no_script(reply):
            # nothing was done: the script is loaded and this call alone is sent again, once
            call.loaded = True
            text = scripts.load(call.script, self._test_clock).text
            self.call(pack(("SCRIPT", "LOAD", text)), "", True).add_done_callback(partial(self._loaded, call))
        else:
            call.fail(replies.refused(reply))

    def _loaded(self, call: Call, load: asyncio.Future[Any]) -> None:
        """The server answered SCRIPT LOAD; if it refused that, this says more than NOSCRIPT does."""
        error = load.exception() or (replies.closed() if self._closed else None)
        if isinstance(error, StoreError):
            call.fail(error)
        else:
            self._waiting.append(call)
            self._flush()

    def lost(self, error: Exception) -> None:
        """The connection is gone."""
        self._break(error, again=True)

    def _watch(self) -> None:
        """The oldest unanswered call is late: a connection that doesn't answer is cut, for replies come in order."""
        self._watchdog = None
        if not self._unanswered:
            return
        first = self._unanswered[0]
        if first.deadline > self._loop.time():
            self._watchdog = self._loop.call_at(first.deadline, self._watch)
            return
        for call in self._unanswered:
            call.repeatable = call.repeatable and call.deadline > self._loop.time()
        self._break(TimeoutError(f"no answer within {self._timeout} s"), again=True)

    def _break(self, error: Exception, *, again: bool) -> None:
        writer, self._writer = self._writer, None
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.detach()
        if writer is not None:
            # Not `close`: under TLS that waits for the server's farewell, and what can't be sent any more for ever.
            # Whoever waits for an answer is told here that it is lost.
            writer.transport.abort()
        unanswered, self._unanswered = self._unanswered, deque()
        retried: deque[Call] = deque()
        for call in unanswered:
            if again and call.repeatable and call.sent < 2 and not call.answer.done():
                retried.append(call)
            else:
                call.fail(replies.cut(error))
        if again:
            self._waiting.extendleft(reversed(retried))
            if self._waiting:
                self._flush()
        else:
            for call in self._waiting:
                call.fail(replies.unreachable(error))
            self._waiting.clear()
