"""`up`: the whole system on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sessionsweep.errors import ConfigurationError


def up(
    data_dir: Annotated[
        Path | None, typer.Option(help="Keeps everything for the next run; without it all is temporary.")
    ] = None,
    port_base: Annotated[int | None, typer.Option(help="Listen on this port and the next four.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show all that the programs say.")] = False,
) -> None:
    """Run the whole system on this machine: Redis, two web nodes, workers, beat, Flower, admin. Ctrl-C stops it."""
    try:
        from sessionsweep_workers.devstack.stack import run
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"`sessionsweep up` needs {error.name}: pip install 'sessionsweep[up]'") from error
    raise typer.Exit(run(data_dir, port_base, verbose=verbose))
