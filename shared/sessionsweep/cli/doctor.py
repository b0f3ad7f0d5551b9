"""`doctor`: looks at everything that may be wrong, and says what mends it."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from sessionsweep.cli.connecting import deployment
from sessionsweep.cli.options import Json
from sessionsweep.cli.output import count, print_json, say
from sessionsweep.operator.doctor import Finding, Level, examine

MARKS = {Level.OK: "ok  ", Level.NOTE: "note", Level.WARNING: "WARN", Level.FAILURE: "FAIL", Level.UNKNOWN: "?   "}


def doctor(
    quiet: Annotated[bool, typer.Option("--quiet", help="Only what isn't well.")] = False, as_json: Json = False
) -> None:
    """Look at servers, workers, queues, books and this node's volumes. Exit status 1: something fails."""
    with deployment() as here:
        findings = list(examine(here.core, here.store))
    levels = Counter(finding.level for finding in findings)
    if as_json:
        print_json({"findings": findings, **{level.value: levels[level] for level in Level}})
    else:
        for finding in findings:
            if not quiet or finding.level not in (Level.OK, Level.NOTE):
                _say(finding)
        say(f"{count(levels[Level.FAILURE], 'failure')}, {count(levels[Level.WARNING], 'warning')}.")
    if levels[Level.FAILURE]:
        raise typer.Exit(1)


def _say(finding: Finding) -> None:
    say(f"{MARKS[finding.level]}  {finding.area}: {finding.text}")
    if finding.fix:
        say(f"      {finding.fix}")
