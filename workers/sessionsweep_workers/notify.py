"""Tells the service manager that this process goes on (sd_notify): one that hangs says nothing, and is replaced.

The protocol is systemd's, and `sessionsweep up` speaks it, too: datagrams to the socket that NOTIFY_SOCKET names.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

PAUSE = 1.0  # seconds between two words


class Notifier:
    """`goes_on` belongs where the work is done: a thread of its own would go on while all else hangs."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._next = 0.0

    def ready(self) -> None:
        """It is up."""
        self._send(b"READY=1")

    def goes_on(self) -> None:
        """It has come round once more."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PAUSE
            self._send(b"WATCHDOG=1")

    def _send(self, word: bytes) -> None:
        if not self._address:
            return
        # "@" is how an abstract name is written
        where = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)  # who doesn't listen must not stop us
            sock.sendto(word, where)
