"""The entry point: runs the command line, or says what to install."""

from __future__ import annotations

import importlib.util
import sys

NEEDED = ("typer", "rich")


def main() -> None:
    """Runs `sessionsweep …`. Exit status: 0 done, 1 failed, 2 wrong usage."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"The command line needs {' and '.join(missing)}, not installed here: pip install 'sessionsweep[cli]'\n"
        )
        sys.exit(1)
    from sessionsweep.cli.app import app
    from sessionsweep.cli.output import quiet_logs

    quiet_logs()
    app()
