"""Disks of a deployment's own, seen by this process and its children alone, and what befalls disks."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

CLONE_NEWNS = 0x20000
NAMES = ("a", "b", "shared")
SIZE = "size=8m,mode=700"

Undo = Callable[[], object]


@functools.cache
def private_mounts() -> str:
    """From now on what this process and those that it starts mount is seen by them alone. "" if so, else why not."""
    if sys.platform != "linux":
        return "only Linux has mount namespaces"
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        return f"unshare(CLONE_NEWNS): {os.strerror(ctypes.get_errno())}"
    told = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, text=True, check=False)
    return told.stderr.strip()


def mount(*words: object) -> None:
    """mount(8)."""
    subprocess.run(["mount", *map(str, words)], check=True, capture_output=True)


def umount(place: Path) -> None:
    """Though it is in use: who has it open keeps it."""
    subprocess.run(["umount", "--lazy", str(place)], check=True, capture_output=True)


class Disks:
    """Volumes `a`, `b` and `shared` below `folder/disks`, each a file system of 8 MB. A context manager.

    Each fault answers what puts it right again; None: it couldn't be had at this moment.
    """

    def __init__(self, folder: Path) -> None:
        self._places = {name: folder / "disks" / name for name in NAMES}
        self._platters = {name: folder / "platters" / name for name in NAMES}
        self._cover = folder / "cover"

    def __enter__(self) -> Disks:
        assert private_mounts() == ""
        self._cover.mkdir(parents=True)
        for name in NAMES:
            for path in (self._places[name], self._platters[name]):
                path.mkdir(parents=True)
            mount("-t", "tmpfs", "-o", SIZE, "none", self._platters[name])
            mount("--bind", self._platters[name], self._places[name])
        return self

    def __exit__(self, *error: object) -> None:
        for place in (*self._places.values(), *self._platters.values()):
            with contextlib.suppress(subprocess.CalledProcessError):
                umount(place)

    def read_only(self, name: str) -> Undo | None:
        """The disk can be read only."""
        for _ in range(20):  # refused while anybody writes
            with contextlib.suppress(subprocess.CalledProcessError):
                mount("-o", "remount,bind,ro", self._places[name])
                return functools.partial(mount, "-o", "remount,bind,rw", self._places[name])
        return None

    def full(self, name: str) -> Undo:
        """Not one more byte."""
        ballast = self._platters[name] / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"\0" * 65536):  # until ENOSPC; what is deleted meanwhile makes room again
                pass
        return ballast.unlink

    def unmounted(self, name: str) -> Undo:
        """Its empty mount point is there."""
        umount(self._places[name])
        return functools.partial(mount, "--bind", self._platters[name], self._places[name])

    def swapped(self, name: str) -> Undo:
        """It and another change places."""
        other = NAMES[NAMES.index(name) - 1]
        for one in (name, other):
            umount(self._places[one])
        for one, two in ((name, other), (other, name)):
            mount("--bind", self._platters[one], self._places[two])

        def put_right() -> None:
            for one in (name, other):
                umount(self._places[one])
            for one in (name, other):
                mount("--bind", self._platters[one], self._places[one])

        return put_right

    def covered(self, name: str) -> Undo:
        """Another file system lies over the folder of its files."""
        files = self._places[name] / "files"
        mount("--bind", self._cover, files)
        return functools.partial(umount, files)
