"""One web node of the example app: `python -m sessionsweep_workers.devstack.web --port N [--quiet]`, on loopback.

Waitress serves it in one process, so that one pid is one node. The app is `voice_notes`: the copy
that the wheel carries beside this file, else the repository's.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from sessionsweep.errors import ConfigurationError, SessionSweepError

from ..logs import Fields
from .ports import LOOPBACK

THREADS = 8
_HERE = Path(__file__).parent
_EXAMPLE = "voice_notes"


def example_parent() -> Path:
    """The folder that holds the example's package.

    Raises:
        ConfigurationError: it is neither in the wheel nor in the repository.
    """
    for parent in (_HERE, _HERE.parents[2] / "examples"):
        if (parent / _EXAMPLE / "app.py").is_file():
            return parent
    raise ConfigurationError(
        f"The example app {_EXAMPLE} is missing from this installation; install sessionsweep again."
    )


def load_example() -> Any:
    """The example's WSGI application.

    Raises:
        ConfigurationError: see `example_parent`.
    """
    # Last, so that no name in that folder hides a package.
    sys.path.append(str(example_parent()))
    return importlib.import_module(f"{_EXAMPLE}.app").create_app()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns 0, or 1 if the app refused its configuration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--quiet", action="store_true", help="warnings and errors only")
    options = parser.parse_args(arguments)

    def stop(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(0)  # waitress then finishes the requests it has begun

    signal.signal(signal.SIGTERM, stop)
    level = logging.WARNING if options.quiet else logging.INFO
    log = logging.StreamHandler(sys.stdout)
    log.setFormatter(Fields("%(levelname)s %(name)s: %(message)s"))  # Flask logs addresses, which strangers choose
    logging.basicConfig(level=level, handlers=[log])
    try:
        app = load_example()
    except SessionSweepError as error:
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
        return 1
    import waitress

    waitress.serve(app, host=LOOPBACK, port=options.port, threads=THREADS, ident=None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
