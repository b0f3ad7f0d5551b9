"""A full disk below PROMETHEUS_MULTIPROC_DIR kills no process and fails no request; it is told of once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.mounts import private_mounts

SCENARIOS = Path(__file__).with_name("crowded_scenarios.py")


@pytest.mark.parametrize(
    ("scenario", "counted_and_told", "complaints"),
    [
        ("begun_on_it", "3.0 None", 2),  # counters, histograms
        ("filled_later", "2.0 1.0", 1),
        ("opened_by_an_app_before", "2.0 1.0", 1),
        ("forked_on_it", "1.0 2.0", 4),
    ],
)
def test_a_full_disk_costs_figures_and_nothing_else(
    tmp_path: Path, scenario: str, counted_and_told: str, complaints: int
) -> None:
    done = subprocess.run(
        [*private_mounts(), sys.executable, str(SCENARIOS), scenario],
        capture_output=True, text=True, check=False, timeout=120,
        env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")},
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, counted_and_told), done.stderr[-3000:]
    assert done.stderr.count("No space left on device; until it restarts, no scrape sees") == complaints, done.stderr
