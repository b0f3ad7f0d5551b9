"""Verdicts, and tables that a person reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """A figure against its bound (at most). `said`: met, SHORT, or "not judged" (the run was too short for it,
    and isn't one of which that is expected)."""

    what: str
    figure: float | None
    bound: float
    said: str

    def as_json(self) -> dict[str, object]:
        """For the report."""
        return asdict(self)


def verdict(what: str, figure: float | None, bound: float, *, judged: bool = True, required: bool = False) -> Verdict:
    """`figure` None: there is none, which is short unless it wasn't to be judged. `required`: then, too."""
    if not judged and required:
        return Verdict(what, None, bound, "SHORT")
    if not judged:
        return Verdict(what, figure, bound, "not judged")
    return Verdict(what, figure, bound, "met" if figure is not None and figure <= bound else "SHORT")


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as they need to be."""
    cells = [list(map(_cell, row)) for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def verdicts(found: Sequence[Verdict]) -> str:
    """Them as a table."""
    return table(("what", "figure", "at most", ""), [(one.what, one.figure, one.bound, one.said) for one in found])


def _cell(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:,.4g}" if isinstance(value, float) and abs(value) < 1000 else (
        f"{value:,.0f}" if isinstance(value, float) else str(value)
    )  # fmt: skip
