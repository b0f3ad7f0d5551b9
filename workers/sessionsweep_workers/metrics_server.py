"""An HTTP server for one page, /metrics, that strangers can't make costly: few descriptors, one thread, short patience.

It asks for no token, and lives in a process that must be able to open files: whoever only connects, or sends a byte
now and then, holds one of CONNECTIONS for at most PATIENCE, and makes room as soon as somebody else needs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

#: Open at once. A scrape sends its request at once; of those who still wait, the oldest is closed for a new one.
CONNECTIONS = 16
#: Accepted in one go, before the first of them is looked at.
BACKLOG = 16
#: Seconds for a whole exchange, however slowly it is read or written.
PATIENCE = 5.0
#: Bytes of a request.
HEAD = 8192


class MetricsServer:
    """Answers GET /metrics with what `page` returns (body and content type), which runs in the server's own thread.

    Raises:
        OSError: the address can't be listened at.
    """

    def __init__(self, host: str, port: int, page: Callable[[], tuple[bytes, str]]) -> None:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
        self._socket = socket.create_server(address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=both)
        self._page = page
        self._exchanges: dict[asyncio.Task[None], None] = {}  # the oldest first
        self._loop, self._stopped = asyncio.new_event_loop(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="sessionsweep-metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Closes it, and what is open; may be repeated."""
        with contextlib.suppress(RuntimeError):  # its loop is closed
            self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(5)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._exchange, sock=self._socket, limit=HEAD, backlog=BACKLOG)
        try:
            await self._stopped.wait()
        finally:
            server.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._exchanges[task] = None
        if len(self._exchanges) > CONNECTIONS:
            oldest = next(iter(self._exchanges))
            del self._exchanges[oldest]
            oldest.cancel()
        try:
            async with asyncio.timeout(PATIENCE):
                writer.write(self._answer(await reader.readuntil(b"\r\n\r\n")))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # gone, too slow (TimeoutError), or no request
        except asyncio.CancelledError:
            pass  # made room, or the server stops; raised further, Python 3.11 would log each
        finally:
            self._exchanges.pop(task, None)
            writer.transport.abort()

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        status, body, kind = "200 OK", b"", "text/plain"
        if path != b"/metrics":
            status = "404 Not Found"
        elif method != b"GET":
            status = "405 Method Not Allowed"
        else:
            try:
                body, kind = self._page()
            except Exception:
                log.exception("metrics can't be told")
                status = "500 Internal Server Error"
        fields = (
            f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return fields.encode("ascii") + body
