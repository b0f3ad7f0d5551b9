"""Promises 1, 2, 9, 21 and 25 on the whole of `sessionsweep up`: the soak of `make soak` in its short form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.processes import LocalProcess

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.smoke, pytest.mark.faults]


@pytest.mark.schedules(0.01)
def test_nothing_is_lost_or_wrongly_deleted_in_a_short_soak(seed: str, tmp_path: Path) -> None:
    """Only what is true at any speed: the visitors' record, the disks, the canaries, the books."""
    report = tmp_path / "soak.json"
    argv = ["python", "-m", "benchmarks.load", "soak", "--short", "--seed", seed, "--json", str(report)]
    argv += ["--folder", str(tmp_path / "deployment")]
    with LocalProcess("soak", argv, tmp_path, cwd=ROOT) as soak:
        soak.wait(240)
    assert report.exists(), soak.tail()
    told = json.loads(report.read_text())
    assert told["faults"], "a soak without faults proves nothing"
    assert all(fault["did"] for fault in told["faults"]), "what did nothing is no fault"
    assert told["visitors"]["counts"]["files told"] > 10
    assert told["canaries"]["planted"] > 10
    assert told["living_files_compared"] > 0
    judged = [one for one in told["verdicts"] if one["said"] != "not judged" and "recovery" not in one["what"]]
    assert len(judged) == 7
    assert [one for one in judged if one["said"] != "met"] == [], told["visitors"]["wrong"]
