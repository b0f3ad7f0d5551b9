"""`receipts`: what became of what ended sessions had."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated

import typer

from sessionsweep.cli.connecting import deployment
from sessionsweep.cli.options import duration
from sessionsweep.operator import fields, naming, receipts

app = typer.Typer(no_args_is_help=True, help="What became of what ended sessions had.")


@app.callback()
def group() -> None:
    """Keeps `export` a command of its own while it is the only one."""


@app.command()
def export(
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only of sessions that ended in the last 1d, 90m …")
    ] = None,
) -> None:
    """Write all receipts as JSON, one to a line, in no order. Memory stays bounded; one may come twice."""
    seconds = duration(since)
    with deployment() as here:
        names = here.run(naming.names(here.core))
        for one in receipts.every(here.core, here.store, seconds):
            typer.echo(json.dumps(fields.of_receipt(one, names), default=datetime.isoformat))
