"""How full a volume's disk is."""

from __future__ import annotations

import os
from dataclasses import dataclass

from sessionsweep.volumes.volume import Volume


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes of a disk, whoever uses them; `free`: what an ordinary user may still write."""

    used: int
    free: int


def space_on(volume: Volume) -> Space:
    """The disk below a volume, which is made sure of first: an unmounted root would tell of another disk.

    Raises:
        VolumeUntrustedError: it isn't that volume (any more). OSError: the disk doesn't say.
    """
    volume.verify()
    found = os.statvfs(volume.root)
    return Space((found.f_blocks - found.f_bfree) * found.f_frsize, found.f_bavail * found.f_frsize)
