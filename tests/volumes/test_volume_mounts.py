"""File systems that come, go and cover ours, each in a private mount namespace."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import mounted
import pytest


@functools.cache
def namespace() -> list[str]:
    """The command that gives a private mount namespace."""
    tried = []
    for command in (["unshare", "-m"], ["unshare", "-r", "-m"]):
        probe = [*command, "sh", "-c", "mount -t tmpfs none /mnt && umount /mnt"]
        done = subprocess.run(probe, capture_output=True, text=True, check=False, timeout=30)
        if done.returncode == 0:
            return command
        tried.append(f"{' '.join(command)}: {done.stderr.strip()}")
    pytest.fail(
        "Unmounted, swapped, full, read-only and bind-mounted volumes are NOT tried here: this machine allows no "
        f"private mount namespace ({'; '.join(tried)}). Run the tests as root with CAP_SYS_ADMIN, or allow user "
        "namespaces."
    )


# A bind mount of the same device can be told by openat2(2) only (Linux 5.6).
TRIED = [
    (scenario, opening)
    for scenario in mounted.SCENARIOS
    for opening in ("openat2", "portable")
    if (scenario, opening) != ("same_device", "portable")
]


@pytest.mark.parametrize(("scenario", "opening"), TRIED)
def test_mounts(tmp_path: Path, scenario: str, opening: str) -> None:
    command = [*namespace(), sys.executable, mounted.__file__, scenario, str(tmp_path), opening]
    paths = [str(Path(mounted.__file__).parent), os.environ.get("PYTHONPATH", "")]
    here = {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=os.environ | here)
    assert (done.returncode, done.stdout.strip()) == (0, f"done {scenario}"), done.stderr
