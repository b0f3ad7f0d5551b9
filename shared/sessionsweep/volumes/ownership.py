"""The lock on a volume's marker by which one process proves that it alone uses the volume.

flock(2) knows open files, not processes: it would refuse a second lock of this process like a stranger's. So a process
locks a marker once, and whoever works for the same owner, a store, shares that. Another store is refused even within
the process: each would take the other's files for orphans.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from sessionsweep.errors import VolumeUntrustedError
from sessionsweep.volumes import inherited, layout
from sessionsweep.volumes.descriptors import NotOursError, fcntl, open_regular, same_file
from sessionsweep.volumes.tree import Tree


class _Marker:
    """A marker that this process has locked: for whom, and how many share it."""

    __slots__ = ("descriptor", "inode", "owner", "sharing")

    def __init__(self, descriptor: int, inode: tuple[int, int], owner: object) -> None:
        self.descriptor = descriptor
        self.inode = inode  # device and number
        self.owner = owner
        self.sharing = 0


class _LockedMarkers:
    """All markers that this process has locked, by inode: while one is open, its number is given to no other file."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._markers: dict[tuple[int, int], _Marker] = {}

    def take(self, tree: Tree, path: Path, owner: object) -> _Marker:
        """See `lock_marker`."""
        with self._lock:
            descriptor, found = open_regular(tree.root, layout.MARKER, tree.device)
            inode = (found.st_dev, found.st_ino)
            marker = self._markers.get(inode)
            if marker is not None:
                os.close(descriptor)
                if marker.owner != owner:
                    raise _in_use_here(path)
            else:
                inherited.register(self)
                marker = self._markers[inode] = _Marker(descriptor, inode, owner)
                try:
                    _lock(tree, descriptor)
                except BaseException:
                    self._close(marker)
                    raise
            marker.sharing += 1
            return marker

    def give_back(self, marker: _Marker) -> None:
        """One fewer shares it; the last one unlocks it."""
        with self._lock:
            marker.sharing -= 1
            if marker.sharing == 0 and marker.descriptor >= 0:
                self._close(marker)

    def let_go(self) -> None:
        """In a forked child: closing our copies leaves the locks with the parent."""
        self._lock = threading.Lock()  # another thread of the parent may have held it
        for marker in list(self._markers.values()):
            self._close(marker)

    def _close(self, marker: _Marker) -> None:
        descriptor, marker.descriptor = marker.descriptor, -1
        del self._markers[marker.inode]
        os.close(descriptor)


_locked = _LockedMarkers()


class ExclusiveLock:
    """The proof that this process alone uses a volume. Ends with `release`, or with the process; never inherited."""

    def __init__(self, marker: _Marker) -> None:
        """Use `lock_marker`."""
        self._marker: _Marker | None = marker

    def release(self) -> None:
        """Let others have the volume, once nobody of this process uses it any more. Harmless to repeat."""
        marker, self._marker = self._marker, None
        if marker is not None:
            _locked.give_back(marker)

    @property
    def held(self) -> bool:
        """Whether this process holds it."""
        return self._marker is not None and self._marker.descriptor >= 0


def lock_marker(tree: Tree, path: Path, owner: object) -> ExclusiveLock:
    """Lock the marker of the verified root. Those of this process that give an equal `owner` share the lock.

    Raises:
        VolumeUntrustedError: `in-use`: another process holds it, or another owner in this one; `marker-unreadable`:
            locking failed.
    """
    try:
        return ExclusiveLock(_locked.take(tree, path, owner))
    except BlockingIOError as error:
        raise _in_use(path) from error
    except (NotOursError, OSError) as error:
        raise VolumeUntrustedError("marker-unreadable", f"The marker of {path} can't be locked: {error}.") from error


def _lock(tree: Tree, descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    now = os.stat(layout.MARKER, dir_fd=tree.root, follow_symlinks=False)
    if not same_file(now, os.fstat(descriptor)):  # rewritten meanwhile: nobody looks at the locked file any more
        raise BlockingIOError


def _in_use(path: Path) -> VolumeUntrustedError:
    return VolumeUntrustedError(
        "in-use",
        f"The volume {path} is used by another process exclusively: with memory:// one process alone may use a volume. "
        "Stop the other, or use Redis (SESSIONSWEEP_REDIS_URL).",
    )


def _in_use_here(path: Path) -> VolumeUntrustedError:
    return VolumeUntrustedError(
        "in-use",
        f"The volume {path} is used by other sessions of this process, with a memory:// store of their own: each would "
        "take the other's files for orphans. Make one Sessions and share it; close it before another is made with "
        "another namespace or other volumes.",
    )
