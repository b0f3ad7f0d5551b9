"""Disks of any size for tests, in a mount namespace of their own that goes with its process."""

from __future__ import annotations

import functools
import subprocess

import pytest


@functools.cache
def private_mounts() -> list[str]:
    """The command before which another may mount what it likes."""
    tried = []
    for command in (["unshare", "-m"], ["unshare", "-r", "-m"]):
        probe = [*command, "sh", "-c", "mount -t tmpfs none /mnt && umount /mnt"]
        done = subprocess.run(probe, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode == 0:
            return command
        tried.append(f"{' '.join(command)}: {done.stderr.strip()}")
    pytest.fail(
        "Full, read-only, unmounted and bind-mounted disks are NOT tried here: this machine allows no private mount "
        f"namespace ({'; '.join(tried)}). Run the tests as root with CAP_SYS_ADMIN, or allow user namespaces."
    )
