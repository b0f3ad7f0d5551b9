"""A TCP proxy on loopback that cuts connections before a request arrives, after it was carried out or in mid-reply.

A cut before: the server never saw the request. A cut after: it did what was asked, and only the answer was lost. A
client can't tell the two apart, which is why each must be harmless. It can be slow, and lead to another server.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import selectors
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

CHUNK = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST, what is under way is dropped


class FaultyProxy:
    """Stands before the server of a `redis://` URL; `url` is the same URL through the proxy. A context manager.

    Args:
        upstream: the server's URL.
        seed: of the dice; the same requests in the same order meet the same faults.
        lose_request: the share of chunks from clients that are dropped, with their connection.
        lose_reply: the share of chunks from the server that are dropped, with their connection.

    `tear_reply` is the share of chunks from the server of which only the first bytes arrive before the connection is
    cut; `delay` is how long a chunk may take on its way, either way, in seconds.
    """

    def __init__(self, upstream: str, seed: object, *, lose_request: float = 0.0, lose_reply: float = 0.0) -> None:
        parts = urlsplit(upstream)
        self._server = _address(upstream)
        self._dice = random.Random(f"{seed} proxy")
        self.lose_request = lose_request
        self.lose_reply = lose_reply
        self.tear_reply = 0.0
        self.delay = 0.0
        self.lost_requests = 0
        self.lost_replies = 0
        self.torn_replies = 0
        self.delayed = 0
        self.refused = 0  # while there was no server
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._listener.setblocking(False)
        host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        user = parts.netloc.rpartition("@")[0]
        self.url = urlunsplit(parts._replace(netloc=f"{user}@{host}" if user else host))
        self._peers: dict[socket.socket, tuple[socket.socket, bool]] = {}  # → (the other side, from the client?)
        # what is under way: when it arrives (monotonic s), a tie-break, where from, its bytes, whether it is torn
        self._under_way: list[tuple[float, int, socket.socket, bytes, bool]] = []
        self._latest: dict[socket.socket, float] = {}  # when the last chunk from there arrives: none overtakes another
        self._order = itertools.count()
        self._cut_all = False
        self._selector = selectors.DefaultSelector()
        self._waker, self._woken = socket.socketpair()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="faulty-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._waker.send(b"x")
        self._thread.join(10)
        for one in (*self._peers, self._listener, self._waker, self._woken):
            one.close()
        self._selector.close()

    def behave(self) -> None:
        """No more faults from here on."""
        self.lose_request = self.lose_reply = self.tear_reply = self.delay = 0.0

    def lead_to(self, upstream: str) -> None:
        """From now on to another server, with the same user and password; open connections are cut."""
        self._server = _address(upstream)
        self._cut_all = True
        self._waker.send(b"x")

    def _run(self) -> None:
        while not self._over:
            wait = max(0.0, self._under_way[0][0] - time.monotonic()) if self._under_way else None
            ready = self._selector.select(wait)
            while self._under_way and self._under_way[0][0] <= time.monotonic():
                _, _, source, data, torn = heapq.heappop(self._under_way)
                if source in self._peers:
                    self._deliver(source, data, torn)
            for key, _ in ready:
                if key.fileobj is self._woken:
                    self._woken.recv(64)
                    if self._cut_all:
                        self._cut_all = False
                        for one in list(self._peers):
                            if one in self._peers:
                                self._cut(one, self._peers[one][0])
                elif key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._peers:
                    self._carry(key.fileobj)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        client.setblocking(True)
        try:
            server = socket.create_connection(self._server, timeout=1)
        except OSError:
            self.refused += 1
            client.close()
            return
        for one, other, from_client in ((client, server, True), (server, client, False)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.settimeout(5)
            self._peers[one] = (other, from_client)
            self._selector.register(one, selectors.EVENT_READ)

    def _carry(self, source: socket.socket) -> None:
        other, from_client = self._peers[source]
        torn = False
        try:
            data = source.recv(CHUNK)
        except OSError:
            data = b""
        if data and from_client and self._dice.random() < self.lose_request:
            self.lost_requests += 1
            data = b""
        elif data and not from_client and self._dice.random() < self.lose_reply:
            self.lost_replies += 1
            data = b""
        elif data and not from_client and self._dice.random() < self.tear_reply:
            self.torn_replies += 1
            data, torn = data[: self._dice.randrange(1, max(2, len(data)))], True
        if not data:
            self._cut(source, other)
            return
        now = time.monotonic()
        arrives = max(now + self._dice.random() * self.delay, self._latest.get(source, 0.0))
        if arrives <= now:
            self._deliver(source, data, torn)
        else:
            self.delayed += 1
            self._latest[source] = arrives
            heapq.heappush(self._under_way, (arrives, next(self._order), source, data, torn))

    def _deliver(self, source: socket.socket, data: bytes, torn: bool) -> None:
        other = self._peers[source][0]
        try:
            other.sendall(data)
        except OSError:
            torn = True
        if torn:
            with contextlib.suppress(OSError):
                other.shutdown(socket.SHUT_WR)  # the bytes arrive before the end does: a reset would drop them
            self._cut(source, other)

    def _cut(self, *pair: socket.socket) -> None:
        for one in pair:
            del self._peers[one]
            self._latest.pop(one, None)
            self._selector.unregister(one)
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            one.close()


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port
