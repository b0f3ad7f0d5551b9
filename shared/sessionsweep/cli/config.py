"""`config show`: every setting as it stands and where it comes from; secrets as ***."""

from __future__ import annotations

import typer

from sessionsweep.cli.options import Json
from sessionsweep.cli.output import print_json, print_table
from sessionsweep.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Settings.")


@app.command()
def show(as_json: Json = False) -> None:
    """Show every setting, its value and its source. Secrets are never shown."""
    rows = Settings.from_env().describe()
    if as_json:
        print_json(rows)
    else:
        print_table(("SETTING", "VALUE", "SOURCE"), [(row.variable, row.value, row.source) for row in rows], "")


@app.callback()
def group() -> None:
    """Settings."""
