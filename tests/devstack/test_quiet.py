"""What a quiet Celery tells of a pass: what it did, never that it found nothing."""

from __future__ import annotations

from dataclasses import fields

import pytest

from sessionsweep.engine.results import OrphanResult, ReclaimResult, SweepResult
from sessionsweep_workers.devstack.quiet import NEWS, news

#: Fields of results that are no news alone: how it went, or that it looked.
ASIDE = {
    "seconds", "bytes", "more", "held", "next_due", "confirm_in", "idle_held_until", "refiled", "stale", "released",
    "files", "strangers",
}  # fmt: skip


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ({"seconds": 0.002}, ""),
        ({"stale": True}, ""),
        ({"files": 12, "seconds": 0.1, "sent": 1}, ""),
        ({"deleted": 2, "bytes": 22720, "seconds": 0.1}, "deleted 2, 22.72 kB"),
        ({"idle": 1, "owed": 3}, "idle 1, owed 3"),
        ({"would_delete": 1}, "would delete 1"),
        (None, ""),
        ("done", ""),
    ],
)
def test_only_what_was_done_is_news(result: object, told: str) -> None:
    assert news(result) == told


def test_every_count_of_a_pass_is_news_or_set_aside() -> None:
    """A new count must not be silent by oversight."""
    counts = {field.name for kind in (SweepResult, ReclaimResult, OrphanResult) for field in fields(kind)}
    assert counts - ASIDE == set(NEWS) - {"ended"}
