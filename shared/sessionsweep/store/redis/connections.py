"""Connections to the server without redis-py's pool: a stack that is fork-safe and hands one to a caller at a time.

redis-py parses the URL, connects, authenticates, speaks TLS and parses replies. Its pool and its retries stay out of
the way: a held connection is 1.6 times as fast, and a retried write may happen twice (see errors.OutcomeUnknownError).
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

#: A connection unused for longer than this is looked at before it is used: the server may have closed it.
STALE_AFTER = 1.0  # seconds


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
        self._idle: deque[tuple[Any, float]] = deque()
        self._pid = os.getpid()
        self._closed = False

    def take(self) -> Any:
        """A connected connection, for this caller alone until it is put back.

        Raises:
            redis.exceptions.ConnectionError: none can be made (nothing was sent).
        """
        if self._pid != os.getpid():
            self._abandon()
        while True:
            try:
                connection, since = self._idle.pop()
            except IndexError:
                connection = self._make(**self._kwargs)
                connection.connect()
                return connection
            if time.monotonic() - since < STALE_AFTER:
                return connection
            try:
                if not connection.can_read(timeout=0):
                    return connection
            except (redis.ConnectionError, OSError):
                pass
            connection.disconnect()  # closed by the server, or an answer that nobody asked for: never reused

    def put(self, connection: Any) -> None:
        """Gives back one whose last reply was read to its end."""
        if self._closed or self._pid != os.getpid():
            connection.disconnect()
        else:
            self._idle.append((connection, time.monotonic()))

    def close(self) -> None:
        """Closes the idle ones; those in use are closed when they come back. Idempotent."""
        self._closed = True
        self.drop_idle()

    def drop_idle(self) -> None:
        """Closes the idle ones: after one broke, the others to the same server are broken too."""
        while self._idle:
            try:
                connection, _ = self._idle.pop()
            except IndexError:
                break
            connection.disconnect()

    def _abandon(self) -> None:
        inherited = list(self._idle)
        self._idle = deque()
        self._pid = os.getpid()
        for connection, _ in inherited:
            sock = getattr(connection, "_sock", None)
            connection._sock = None  # its __del__ must not shut down what the parent uses
            if sock is not None:
                sock.close()  # closes this process's descriptor only; no shutdown()
