"""Choosing TCP ports on loopback that are free now and stay so while a program restarts."""

from __future__ import annotations

import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
_LOWEST = 10240
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of loopback now (asked by doing so)."""
    with socket.socket() as sock:
        # As servers do: connections of a predecessor that still wait in TIME_WAIT don't matter.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, port))
            sock.listen(1)
        except OSError:
            return False
    return True


def free_port(avoid: frozenset[int] = frozenset()) -> int:
    """A random free port below the kernel's ephemeral range and not in `avoid`.

    Below, because a port that the kernel also hands to outgoing connections may be taken while its server
    restarts. It is free at the moment of asking only: who starts a server there has to cope with losing it.

    Raises:
        OSError: none was found in 200 tries.
    """
    for _ in range(200):
        port = random.randrange(_LOWEST, _ephemeral_start())  # noqa: S311
        if port not in avoid and is_free(port):
            return port
    raise OSError(f"no free port on {LOOPBACK} between {_LOWEST} and {_ephemeral_start()}")


def _ephemeral_start() -> int:
    try:
        start = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        start = 32768
    return start if start > _LOWEST + 1000 else 60000
