"""One shared connection of one event loop: everything that waits in a tick goes out in one write, replies in order.

Cancelling a waiter never cancels what was sent: its reply is read and dropped, so no later caller can receive it
(redis-py CVE-2023-28858 was that). When the connection breaks, every unanswered call is told so or, where a repeat
is harmless, sent again on the next connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import hiredis
from redis import exceptions as driver
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from sessionsweep.errors import StoreError
from sessionsweep.store.redis import replies, scripts
from sessionsweep.store.redis.resp import pack

BROKEN = (driver.ConnectionError, driver.TimeoutError, OSError, EOFError, asyncio.IncompleteReadError)
CHUNK = 65_536


class Call:
    """One command on its way: its bytes, whom to answer, and what to do when the answer is lost."""

    __slots__ = ("answer", "deadline", "packed", "repeatable", "script", "sent")

    def __init__(
        self, packed: bytes, answer: asyncio.Future[Any], script: str, repeatable: bool, deadline: float
    ) -> None:
        self.packed = packed
        self.answer = answer
        self.script = script
        self.repeatable = repeatable
        self.deadline = deadline
        self.sent = 0

    def resolve(self, value: Any) -> None:
        """Answers the waiter, unless it was cancelled."""
        if not self.answer.done():
            self.answer.set_result(value)

    def fail(self, error: StoreError) -> None:
        """Tells the waiter, unless it was cancelled."""
        if not self.answer.done():
            self.answer.set_exception(error)


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
        self._connection: AbstractConnection | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._flush_scheduled = False
        self._watchdog: asyncio.TimerHandle | None = None
        self._closed = False

    def call(self, packed: bytes, script: str, repeatable: bool) -> asyncio.Future[Any]:
        """Queues a command for this tick's write; the future gets the raw reply or a StoreError."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        if self._closed:
            answer.set_exception(replies.unreachable(ConnectionError("the store is closed")))
            return answer
        deadline = self._loop.time() + self._timeout
        self._waiting.append(Call(packed, answer, script, repeatable, deadline))
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)
        return answer

    async def close(self) -> None:
        """Closes the connection; what is unanswered is told so. Idempotent."""
        self._closed = True
        for task in (self._connecting, self._reading):
            if task is not None:
                task.cancel()
        self._break(ConnectionError("the store was closed"), again=False)
        await asyncio.sleep(0)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._writer is None:
            if self._connecting is None and not self._closed:
                self._connecting = self._loop.create_task(self._connect())
            return
        if not self._waiting:
            return
        calls = [call for call in self._waiting if not call.answer.cancelled()]
        self._waiting.clear()
        for call in calls:
            call.sent += 1
        self._unanswered.extend(calls)
        self._writer.write(b"".join([call.packed for call in calls]))
        if self._watchdog is None and calls:
            self._watchdog = self._loop.call_at(calls[0].deadline, self._watch)

    async def _connect(self) -> None:
        try:
            connection = self._make(**self._kwargs)
            async with asyncio.timeout(self._timeout):
                await connection.connect()  # type: ignore[no-untyped-call]
            reader, writer = connection._reader, connection._writer
            if reader is None or writer is None:
                raise ConnectionError("the connection closed while it was made")
            connection._reader = connection._writer = None  # the link's from now on; else `__del__` warns about them
        except (*BROKEN, driver.ResponseError, TimeoutError) as error:
            self._connecting = None
            waiting, self._waiting = self._waiting, deque()
            for call in waiting:
                # sent before and sent again in vain: its outcome is unknown, not "nothing was done"
                call.fail(replies.cut(error) if call.sent else replies.unreachable(error))
            return
        self._connection, self._writer, self._connecting = connection, writer, None
        self._reading = self._loop.create_task(self._read(reader))
        self._flush()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        parser = hiredis.Reader(notEnoughData=False)
        try:
            while True:
                chunk = await reader.read(CHUNK)
                if not chunk:
                    raise ConnectionError("the server closed the connection")
                parser.feed(chunk)
                while (reply := parser.gets()) is not False:
                    self._answer(self._unanswered.popleft(), reply)
        except (*BROKEN, hiredis.ProtocolError, IndexError) as error:
            self._break(error, again=True)

    def _answer(self, call: Call, reply: Any) -> None:
        if not isinstance(reply, hiredis.ReplyError):
            call.resolve(reply)
        elif call.script and replies.is_no_script(reply):
            # nothing was done: the script is loaded and this call alone is sent again
            text = scripts.load(call.script, self._test_clock).text
            self.call(pack(("SCRIPT", "LOAD", text)), "", True).add_done_callback(_ignore)
            self._waiting.append(call)
        else:
            call.fail(replies.refused(driver.ResponseError(str(reply))))

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
        if self._reading is not None:
            self._reading.cancel()
        self._break(TimeoutError(f"no answer within {self._timeout} s"), again=True)

    def _break(self, error: Exception, *, again: bool) -> None:
        writer, self._writer = self._writer, None
        self._connection = None
        if writer is not None:
            writer.close()
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


def _ignore(answer: asyncio.Future[Any]) -> None:
    if not answer.cancelled():
        answer.exception()
