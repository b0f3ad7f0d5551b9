"""The lock on a volume's marker by which one process proves that it alone uses the volume."""

from __future__ import annotations

import os
from pathlib import Path

from sessionsweep.errors import VolumeUntrustedError
from sessionsweep.volumes import inherited, layout
from sessionsweep.volumes.descriptors import NotOursError, fcntl, open_regular, same_file
from sessionsweep.volumes.tree import Tree


class ExclusiveLock:
    """The proof that this process alone uses a volume. Ends with `release`, or with the process; never inherited."""

    def __init__(self, descriptor: int) -> None:
        """Take over the locked descriptor of the marker."""
        self._descriptor = descriptor
        inherited.register(self)

    def release(self) -> None:
        """Let others have the volume. Harmless to repeat."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def let_go(self) -> None:
        """In a forked child: closing our copy leaves the lock with the parent."""
        self.release()

    @property
    def held(self) -> bool:
        """Whether this process holds it."""
        return self._descriptor >= 0


def lock_marker(tree: Tree, path: Path) -> ExclusiveLock:
    """Lock the marker of the verified root.

    Raises:
        VolumeUntrustedError: `in-use`: another process holds it; `marker-unreadable`: locking failed.
    """
    try:
        descriptor, found = open_regular(tree.root, layout.MARKER, tree.device)
        lock = ExclusiveLock(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            current = same_file(os.stat(layout.MARKER, dir_fd=tree.root, follow_symlinks=False), found)
        except BaseException:
            lock.release()
            raise
    except BlockingIOError as error:
        raise _in_use(path) from error
    except (NotOursError, OSError) as error:
        raise VolumeUntrustedError("marker-unreadable", f"The marker of {path} can't be locked: {error}.") from error
    if not current:  # rewritten between the opening and the lock: ours is on a file that nobody looks at any more
        lock.release()
        raise _in_use(path)
    return lock


def _in_use(path: Path) -> VolumeUntrustedError:
    return VolumeUntrustedError(
        "in-use",
        f"The volume {path} is used by another process exclusively: with memory:// one process alone may use a volume. "
        "Stop the other, or use Redis (SESSIONSWEEP_REDIS_URL).",
    )
