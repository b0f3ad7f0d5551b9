"""How full a volume's disk is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sessionsweep.volumes.volume import Volume


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes of a disk, whoever uses them; `free`: what an ordinary user may still write."""

    used: int
    free: int

    @property
    def full(self) -> float:
        """From 0 to 1, as `df` counts it: what is reserved for root is neither used nor free."""
        return self.used / (self.used + self.free) if self.used + self.free else 0.0


def space_at(path: Path) -> Space:
    """The disk below a path.

    Raises:
        OSError: it doesn't say.
    """
    found = os.statvfs(path)
    return Space((found.f_blocks - found.f_bfree) * found.f_frsize, found.f_bavail * found.f_frsize)


def space_on(volume: Volume) -> Space:
    """The disk below a volume, which is made sure of first: an unmounted root would tell of another disk.

    Raises:
        VolumeUntrustedError: it isn't that volume (any more). OSError: the disk doesn't say.
    """
    volume.verify()
    return space_at(volume.root)
