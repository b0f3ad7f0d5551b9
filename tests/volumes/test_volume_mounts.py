"""File systems that come, go and cover ours, each in a private mount namespace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mounted
import pytest

from support.mounts import private_mounts

# A bind mount of the same device can be told by openat2(2) only (Linux 5.6).
TRIED = [
    (scenario, opening)
    for scenario in mounted.SCENARIOS
    for opening in ("openat2", "portable")
    if (scenario, opening) != ("same_device", "portable")
]


@pytest.mark.parametrize(("scenario", "opening"), TRIED)
def test_mounts(tmp_path: Path, scenario: str, opening: str) -> None:
    command = [*private_mounts(), sys.executable, mounted.__file__, scenario, str(tmp_path), opening]
    paths = [str(Path(mounted.__file__).parent), os.environ.get("PYTHONPATH", "")]
    here = {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=os.environ | here)
    assert (done.returncode, done.stdout.strip()) == (0, f"done {scenario}"), done.stderr
