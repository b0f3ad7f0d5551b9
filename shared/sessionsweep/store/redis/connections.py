"""Connections to the server without redis-py's pool: a stack that is fork-safe and hands one to a caller at a time.

redis-py parses the URL, connects, authenticates and speaks TLS. Its pool, its retries and its reading stay out of the
way: what is left of a request is one sendall, one recv and hiredis, and a retried write may happen twice (see
errors.OutcomeUnknownError).
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Any

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sessionsweep.store.redis.replies import closed

#: A connection unused for longer than this is looked at before it is used: the server may have closed it.
STALE_AFTER = 1.0  # seconds
READ = 16_384  # bytes; a reply to a request is far smaller
_MORE = object()


class Channel:
    """One connection that redis-py made. Commands go out packed; an error reply comes back as a value."""

    __slots__ = ("_connection", "_receive", "_replies", "send")

    def __init__(self, connection: Any) -> None:
        connection.connect()
        sock = connection._sock
        self._connection = connection
        self._receive = sock.recv
        self._replies = hiredis.Reader(notEnoughData=_MORE)
        #: sends packed commands; raises OSError when that can't be done within the connection's timeout
        self.send = sock.sendall

    def reply(self) -> Any:
        """The next reply; a hiredis.ReplyError if it is an error.

        Raises:
            OSError: the connection was cut, or no reply came within its timeout.
        """
        replies = self._replies
        reply = replies.gets()
        while reply is _MORE:
            chunk = self._receive(READ)
            if not chunk:
                raise ConnectionError("the server closed the connection")
            replies.feed(chunk)
            reply = replies.gets()
        return reply

    def is_fresh(self) -> bool:
        """Whether nothing waits to be read: neither the server's good-bye nor an answer that nobody asked for."""
        try:
            return not self._connection.can_read(timeout=0)
        except (redis.ConnectionError, OSError):
            return False

    def close(self) -> None:
        """Closes it. Idempotent."""
        self._connection.disconnect()

    def abandon(self) -> None:
        """Closes this process's descriptor only: the parent process still speaks on that connection."""
        sock = getattr(self._connection, "_sock", None)
        self._connection._sock = None  # its __del__ would shut the connection down
        if sock is not None:
            sock.close()


class Connections:
    """A stack of idle connections: the warmest is used first. Nothing connects before it is needed.

    deque.pop and deque.append are atomic in CPython, so no lock is held around the network. A fork is noticed by the
    process id: the child drops what it inherited without closing it, for the parent still speaks on those sockets.
    """

    def __init__(self, url: str, *, socket_timeout: float, name: str = "sessionsweep") -> None:
        options: dict[str, Any] = {
            "socket_timeout": socket_timeout,
            "socket_connect_timeout": socket_timeout,
            "retry": Retry(NoBackoff(), 0),
            "health_check_interval": 0,
            "protocol": 2,
            "client_name": name,
        }
        if not url.startswith("unix:"):
            options["socket_keepalive"] = True
        pool = redis.ConnectionPool.from_url(url, **options)
        self._make = pool.connection_class
        self._kwargs = {k: v for k, v in pool.connection_kwargs.items() if not k.startswith("maint_")}
        self._idle: deque[tuple[Channel, float]] = deque()
        self._pid = os.getpid()
        self.closed = False

    def take(self) -> Channel:
        """A connected channel, for this caller alone until it is put back.

        Raises:
            redis.exceptions.ConnectionError: none can be made (nothing was sent).
            StoreUnavailableError: `close` was called.
        """
        if self.closed:
            raise closed()
        if self._pid != os.getpid():
            self._abandon()
        while True:
            try:
                channel, since = self._idle.pop()
            except IndexError:
                return Channel(self._make(**self._kwargs))
            if time.monotonic() - since < STALE_AFTER or channel.is_fresh():
                return channel
            channel.close()  # never reused

    def put(self, channel: Channel) -> None:
        """Gives back one whose last reply was read to its end."""
        if self.closed or self._pid != os.getpid():
            channel.close()
        else:
            self._idle.append((channel, time.monotonic()))

    def close(self) -> None:
        """Closes the idle ones, and those in use when they come back; no more are made. Idempotent."""
        self.closed = True
        self.drop_idle()

    def drop_idle(self) -> None:
        """Closes the idle ones: after one broke, the others to the same server are broken too."""
        while self._idle:
            try:
                channel, _ = self._idle.pop()
            except IndexError:
                break
            channel.close()

    def _abandon(self) -> None:
        inherited = list(self._idle)
        self._idle = deque()
        self._pid = os.getpid()
        for channel, _ in inherited:
            channel.abandon()
