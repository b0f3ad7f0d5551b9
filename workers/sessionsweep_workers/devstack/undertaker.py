"""The program that outlives a killed supervisor by a moment, to kill its grandchildren too.

The kernel kills a dead supervisor's children, not their children (a pool's processes, a reloader's program).
This program is told every process group on standard input, as lines `+PGID` and `-PGID`; when that ends,
whatever the reason, it kills the groups that are left. Run by path with `python -I -S`: standard library
only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main() -> int:
    """Read until the end of standard input, then kill the groups that were not taken back."""
    # A supervisor that is told to stop takes its groups back one by one: dying with it would leave some.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
