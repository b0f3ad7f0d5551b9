"""On a system without descriptors and locks, importing is fine and using a volume says what is missing."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import os, random, sys
sys.modules["fcntl"] = None
for name in ("O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "O_NONBLOCK", "register_at_fork"):
    delattr(os, name)
from pathlib import Path
import sessionsweep
from sessionsweep.errors import VolumeError
from sessionsweep.volumes.volume import Volume
for call in (lambda: Volume.read_marker(Path("v")), lambda: Volume.open(Path("v"), "a"),
             lambda: Volume.initialize(Path("v"), "a", "d1")):
    try:
        call()
    except VolumeError as error:
        assert "Linux" in str(error), error
    else:
        raise AssertionError("no error")
print("ok")
"""


def test_windows_says_so_at_use_not_at_import() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "ok\n", done.stderr
