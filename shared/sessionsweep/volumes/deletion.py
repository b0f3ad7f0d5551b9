"""Deleting the files of sessions: one file under its lock with its identity checked, and batches of them.

For one file: look at the name without following it (a regular file of the volume's device, or it isn't ours),
open it, lock it or call it busy, and, with the lock held, see that the name still is the inode that is open.
Only then unlink. A writer that holds the lock is spared, and a name swapped in between is not destroyed in
place of what was looked at.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from sessionsweep.model.ids import RESOURCE_ID, is_session_id
from sessionsweep.volumes import layout
from sessionsweep.volumes.descriptors import NotOursError, errno_name, fcntl
from sessionsweep.volumes.tree import Tree, remove_if_empty

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_READ = os.O_RDONLY | _NOFOLLOW
_WRITE = os.O_RDWR | _NOFOLLOW
_LOCK = fcntl.LOCK_EX | fcntl.LOCK_NB if fcntl is not None else 0


class Outcome(StrEnum):
    """What became of one name."""

    DELETED = "deleted"  # by this call
    GONE = "gone"  # the name doesn't exist below a verified root
    BUSY = "busy"  # somebody holds its lock: try again, this is no failure
    CHANGED = "changed"  # not what was sighted (orphans only): sight it again
    FAILED = "failed"  # it exists, or nobody knows: `error` says why


_DELETED = Outcome.DELETED

#: What says something of the whole disk, or of this process, and nothing of the file: it is tried again when that is
#: over, for as long as it takes.
OF_THE_DISK = frozenset(
    {
        "EROFS", "ESTALE", "ENODEV", "ENXIO", "ENOTCONN", "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN",
        "ENETUNREACH", "ECONNREFUSED", "ECONNRESET", "EMFILE", "ENFILE", "ENOMEM", "ENOLCK", "EINTR", "EDQUOT",
        "ENOSPC",
    }
)  # fmt: skip


class Removal(NamedTuple):
    """The outcome for one resource. `size`: bytes freed, 0 while another hard link holds them.

    `error` is empty, an errno's name (`EROFS`), or one of our codes: `not-regular`, `not-a-folder`,
    `other-device`, `changed`, `bad-id`.
    """

    session_id: str
    resource_id: str
    outcome: Outcome
    size: int = 0
    error: str = ""
    message: str = ""


class Sighting(NamedTuple):
    """A file as it was seen. What is destroyed for having no owner must still be exactly this."""

    session_id: str
    resource_id: str
    size: int  # bytes
    mtime_ns: int  # of the file system's clock
    inode: int
    device: int


def delete_many(tree: Tree, batches: Iterable[tuple[str, Sequence[str]]]) -> list[Removal]:
    """Delete the resources of several sessions; one that fails never keeps another from its turn.

    Folders left empty are removed. Returns one `Removal` for each resource, in the order asked.
    """
    removals: list[Removal] = []
    for session_id, resource_ids in batches:
        if not is_session_id(session_id):
            what = f"{session_id!r} is no session id"
            removals += [_refused(session_id, rid, "bad-id", what) for rid in resource_ids]
            continue
        try:
            folder = tree.session_folder(session_id)
        except FileNotFoundError:
            removals += [_absent(session_id, rid) for rid in resource_ids]
            continue
        except (NotOursError, OSError) as error:
            removals += [_failed(session_id, rid, error) for rid in resource_ids]
            continue
        emptied = True
        try:
            for resource_id in resource_ids:
                removal = _delete(folder, session_id, resource_id, tree.device, None)
                removals.append(removal)
                if removal.outcome is not Outcome.DELETED and removal.outcome is not Outcome.GONE:
                    emptied = False
            if emptied:
                remove_if_empty(folder, session_id)
        finally:
            os.close(folder)
    return removals


def delete_sighted(tree: Tree, sighted: Sighting) -> Removal:
    """Delete a file only if it still is exactly what was sighted (inode, size, time of change)."""
    session_id, resource_id = sighted.session_id, sighted.resource_id
    if not layout.are_ids(session_id, resource_id):
        return _refused(session_id, resource_id, "bad-id", f"{session_id!r}/{resource_id!r} are no ids")
    try:
        folder = tree.session_folder(session_id)
    except FileNotFoundError:
        return Removal(session_id, resource_id, Outcome.GONE)
    except (NotOursError, OSError) as error:
        return _failed(session_id, resource_id, error)
    try:
        removal = _delete(folder, session_id, resource_id, tree.device, sighted)
        if removal.outcome is Outcome.DELETED:
            remove_if_empty(folder, session_id)
        return removal
    finally:
        os.close(folder)


def _delete(
    folder: int,
    session_id: str,
    resource_id: str,
    device: int,
    sighted: Sighting | None,
    # Bound once: these calls are the whole cost of reclaiming a disk, looking each up again is a tenth of it.
    status: Callable[..., os.stat_result] = os.stat,
    is_regular: Callable[[int], bool] = stat.S_ISREG,
    is_id: Callable[[str], re.Match[str] | None] = RESOURCE_ID.match,
) -> Removal:
    descriptor = -1
    try:
        if not is_id(resource_id):
            return _refused(session_id, resource_id, "bad-id", f"{resource_id!r} is no resource id")
        seen = status(resource_id, dir_fd=folder, follow_symlinks=False)
        if not is_regular(seen.st_mode):
            return _refused(session_id, resource_id, "not-regular", "no regular file stands where ours should be")
        if seen.st_dev != device:
            return _refused(session_id, resource_id, "other-device", "a file is mounted over our name")
        descriptor = os.open(resource_id, _READ, dir_fd=folder)
        try:
            fcntl.flock(descriptor, _LOCK)
        except BlockingIOError:
            return Removal(session_id, resource_id, Outcome.BUSY)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            # NFS makes flock a byte-range lock, which wants a descriptor that may write.
            os.close(descriptor)
            descriptor = -1
            descriptor = os.open(resource_id, _WRITE, dir_fd=folder)
            try:
                fcntl.flock(descriptor, _LOCK)
            except BlockingIOError:
                return Removal(session_id, resource_id, Outcome.BUSY)
        opened = os.fstat(descriptor)
        named = status(resource_id, dir_fd=folder, follow_symlinks=False)
        if (
            opened.st_ino != seen.st_ino
            or named.st_ino != opened.st_ino
            or opened.st_dev != device
            or named.st_dev != device
            or not is_regular(opened.st_mode)  # a FIFO may have been given the number of the inode just freed
        ):
            return _refused(session_id, resource_id, "changed", "another file took the name meanwhile")
        if sighted is not None and not _is_still(opened, sighted):
            return Removal(session_id, resource_id, Outcome.CHANGED)
        os.unlink(resource_id, dir_fd=folder)
    except FileNotFoundError:
        # Somebody else of us was faster; or it never was written.
        return Removal(session_id, resource_id, Outcome.GONE)
    except (NotOursError, OSError) as error:
        return _failed(session_id, resource_id, error)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return Removal(session_id, resource_id, _DELETED, opened.st_size if opened.st_nlink == 1 else 0)


def _is_still(opened: os.stat_result, sighted: Sighting) -> bool:
    return (
        opened.st_ino == sighted.inode
        and opened.st_dev == sighted.device
        and opened.st_size == sighted.size
        and opened.st_mtime_ns == sighted.mtime_ns
    )


def _absent(session_id: str, resource_id: str) -> Removal:
    if not RESOURCE_ID.match(resource_id):
        return _refused(session_id, resource_id, "bad-id", f"{resource_id!r} is no resource id")
    return Removal(session_id, resource_id, Outcome.GONE)


def _refused(session_id: str, resource_id: str, code: str, message: str) -> Removal:
    return Removal(session_id, resource_id, Outcome.FAILED, 0, code, message)


def _failed(session_id: str, resource_id: str, error: NotOursError | OSError) -> Removal:
    if isinstance(error, NotOursError):
        return _refused(session_id, resource_id, error.code, str(error))
    return _refused(session_id, resource_id, errno_name(error), error.strerror or str(error))
