"""Which connections a process holds, as the kernel tells it (Linux)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

ESTABLISHED = "01"
CLOSE_WAIT = "08"  # the other side has closed it, this one not


def connections(pid: int, port: int, in_state: str = ESTABLISHED) -> set[int]:
    """Inodes of a process's connections to a port of another. Processes that share one share its inode."""
    ours: set[int] = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            kind, _, inode = os.readlink(fd).partition(":")
            if kind == "socket":
                ours.add(int(inode.strip("[]")))
    to_port: set[int] = set()
    for family in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{family}").read_text().splitlines()[1:]:
            _, _, remote, state, *_, inode = line.split()[:10]
            if state == in_state and int(remote.rpartition(":")[2], 16) == port:
                to_port.add(int(inode))
    return ours & to_port
