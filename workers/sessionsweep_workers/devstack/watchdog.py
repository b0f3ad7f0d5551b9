"""Hears a process say that it goes on (see notify.py), as systemd would."""

from __future__ import annotations

import contextlib
import socket
import sys


class Watchdog:
    """One incarnation's socket. `heard`: when it last said so (monotonic seconds)."""

    def __init__(self, now: float) -> None:
        self.heard = now
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind("")  # a free abstract name: no file is left, and nobody else has it

    @property
    def address(self) -> str:
        """As NOTIFY_SOCKET."""
        return f"@{self.socket.getsockname()[1:].decode()}"

    def listen(self, now: float) -> None:
        """Takes what was said."""
        with contextlib.suppress(BlockingIOError):
            while word := self.socket.recv(4096):
                if b"WATCHDOG=1" in word.split(b"\n"):
                    self.heard = now

    def close(self) -> None:
        """Hears no more."""
        self.socket.close()


def watchdog(now: float) -> Watchdog | None:
    """None: this system has no abstract names (macOS: development only)."""
    return Watchdog(now) if sys.platform == "linux" else None
