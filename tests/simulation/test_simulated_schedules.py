"""Many schedules of a whole deployment in one process: none may harm, lose or keep what it should not.

SIMULATED_SCHEDULES says how many (`make simulate` runs 100,000 in another way), SIMULATED_RUN draws others,
SIMULATED_SEED repeats one.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sessionsweep.model.states import RESOURCE_TRANSITIONS
from sessionsweep.store.memory.store import STEPS
from simulation.schedule import PROFILES, run
from simulation.simulate import folder
from simulation.witness import CHANGES, WAYS

SCHEDULES = int(os.environ.get("SIMULATED_SCHEDULES", "200"))
RUN = os.environ.get("SIMULATED_RUN", "1")
SEED = os.environ.get("SIMULATED_SEED")
PART = 50  # schedules a test


def test_no_schedule_breaks_a_promise(numbers: range) -> None:
    for number in numbers:
        report = run(SEED or f"{RUN}-{number}", folder())
        assert not report.wrong, f"{report}\nrepeat it: make simulate SEED={report.seed}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parts of all schedules."""
    if "numbers" in metafunc.fixturenames:
        starts = [0] if SEED else range(0, SCHEDULES, PART)
        parts = [range(start, min(start + PART, SCHEDULES) if not SEED else 1) for start in starts]
        metafunc.parametrize("numbers", parts, ids=lambda part: f"{part.start}-{part.stop - 1}")


def test_a_seed_repeats_its_schedule_exactly(tmp_path: Path) -> None:
    for number in range(12):
        first, again = (run(f"repeated-{number}", tmp_path / name) for name in ("one", "two"))
        assert (first.trace, first.words, first.happened) == (again.trace, again.words, again.happened)
    assert run("repeated-1", tmp_path / "one").trace != run("repeated-2", tmp_path / "one").trace


def test_every_fault_is_drawn_and_something_happens(tmp_path: Path) -> None:
    assert {fault for faults in PROFILES for fault in faults} == {"lossy", "failover", "disks", "emptied", "clock"}
    missing = {
        "requests", "ended", "deleted", "orphans", "promoted", "killed", "lost words", "snapshot", "failover",
        "emptied", "unmount", "swap", "block", "repair", "clock set", "hold: restarted", "hold: marker-missing",
        "hold: foreign-deployment", "hold: rolled-back", "dead letters",
    }  # fmt: skip
    for number in range(400):  # the rarest come once in a hundred
        missing -= {what for what, times in run(f"drawn-{number}", tmp_path / "w").happened.items() if times}
        if not missing:
            break
    assert not missing


def test_the_witness_judges_by_the_table_of_states() -> None:
    ways = {way for ways in WAYS.values() for way in ways}
    assert ways == {way for ways in RESOURCE_TRANSITIONS.values() for way in ways}
    assert STEPS.keys() > CHANGES
