"""The program between fork and exec: asks the kernel to kill it when its parent dies, then becomes another.

Run by path with `python -I -S`, so it imports the standard library only. It exists because Python's
`preexec_fn` may deadlock in a process that has threads, and because `PR_SET_PDEATHSIG` survives exec: the pid
that the parent got is the pid of the program that runs in the end.

Usage: launch.py PARENT_PID PROGRAM [ARGUMENT...]
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main() -> int:
    """Become PROGRAM. Returns only if it can't be run: 127, as a shell does."""
    parent, argv = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        # KILL, not TERM: when the parent is gone nobody is left to escalate, a program that finishes its work
        # first (Celery's warm shutdown) would go on beside the next stack on the same files, and none of
        # ours needs a farewell: the server's acknowledged writes are in the kernel, the rest is built to
        # be killed.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above took effect
            return 1
    # Python ignores these two for itself; exec would hand that on.
    for name in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(name, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execvp(argv[0], argv)  # noqa: S606  no shell is the point
    except OSError as error:
        sys.stderr.write(f"{argv[0]} can't be run: {error}\n")
    return 127


if __name__ == "__main__":
    sys.exit(main())
