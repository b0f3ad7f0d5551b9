"""Redis' data on the disk of a volume, and that is full: what is refused, what is told, and how it goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.mounts import private_mounts

SCENARIO = Path(__file__).with_name("redis_disk_scenario.py")


def test_a_full_disk_that_carries_the_servers_file_too(tmp_path: Path) -> None:
    binary = os.environ.get("TEST_REDIS_SERVER")
    paths = [str(SCENARIO.parent.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [*private_mounts(), sys.executable, str(SCENARIO), str(tmp_path), *([binary] if binary else [])],
        capture_output=True, text=True, check=False, timeout=120,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr[-3000:]
