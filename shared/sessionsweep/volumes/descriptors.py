"""Opening folders and files from a descriptor, one component at a time, without following a link or leaving
the file system.

Checking a path and then using it loses against somebody who swaps a folder for a link in between. A
descriptor cannot be swapped: every step starts from the folder that the step before opened. Linux' openat2(2)
refuses links and mount points in the kernel (bind mounts of the same device, too, which no stat can tell);
elsewhere each component is opened with O_NOFOLLOW and its device compared.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from sessionsweep.errors import VolumeError

if TYPE_CHECKING:
    import fcntl
else:
    try:
        import fcntl
    except ImportError:  # Windows: sessions work there, volumes say that they don't (require_descriptors)
        fcntl = None

__all__ = [
    "NotOursError",
    "errno_name",
    "fcntl",
    "is_unlocked",
    "make_folder",
    "open_folder",
    "open_regular",
    "open_replaced",
    "require_descriptors",
    "same_file",
]

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NOFOLLOW | _CLOEXEC
# O_NONBLOCK: should a FIFO be swapped in after the check, opening it must not wait for a writer.
_FILE = _NOFOLLOW | _CLOEXEC | getattr(os, "O_NONBLOCK", 0)


class NotOursError(Exception):
    """What stands there is nothing we made. `code`: not-regular, not-a-folder, other-device, changed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def require_descriptors() -> None:
    """Refuse a system on which the safe walk can't be done.

    Raises:
        VolumeError: always on Windows.
    """
    if fcntl is None or not _NOFOLLOW or os.open not in os.supports_dir_fd:
        raise VolumeError(
            "Volumes need POSIX descriptors and locks, which this system hasn't: run web nodes that hold files, and "
            "workers, on Linux (or macOS for development). Sessions without files work here."
        )


def errno_name(error: OSError) -> str:
    """`EACCES` rather than 13: what a dead letter shows and what a person searches for."""
    return errno.errorcode.get(error.errno or 0, f"errno-{error.errno}")


def is_unlocked(descriptor: int) -> bool:
    """Whether nobody writes this file: whoever does holds its lock. A shared one is tried, which disturbs no reader."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True


def same_file(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether two stats are of one inode."""
    return one.st_ino == other.st_ino and one.st_dev == other.st_dev


def make_folder(name: str, mode: int, parent: int) -> None:
    """Make a folder unless it exists. What exists under that name is judged when it is opened."""
    with suppress(FileExistsError):
        os.mkdir(name, mode, dir_fd=parent)


def open_regular(parent: int, name: str, device: int | None, flags: int = os.O_RDONLY) -> tuple[int, os.stat_result]:
    """Open a regular file of `device` (None: any), not followed; returns its descriptor and its stat.

    The name is looked at before it is opened: opening a device or a FIFO can have effects by itself.

    Raises:
        NotOursError: something else stands there, or it was swapped while we looked.
        OSError: as from stat and open; FileNotFoundError means that the name doesn't exist in this folder.
    """
    seen = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISREG(seen.st_mode):
        raise NotOursError("not-regular", f"{name!r} is no regular file")
    if device is not None and seen.st_dev != device:
        raise NotOursError("other-device", f"{name!r} lies on another file system than the volume")
    try:
        descriptor = os.open(name, flags | _FILE, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise NotOursError("changed", f"{name!r} was swapped while it was opened") from error
        raise
    opened = os.fstat(descriptor)
    # The number alone doesn't tell: what was swapped in may have been given the inode just freed.
    if not same_file(seen, opened) or not stat.S_ISREG(opened.st_mode):
        os.close(descriptor)
        raise NotOursError("changed", f"{name!r} was swapped while it was opened")
    return descriptor, opened


_REPLACED = 100  # times in a row: whoever replaces it so often is none of us


def open_replaced(parent: int, name: str, device: int) -> int:
    """Open a regular file for reading that others replace by rename(2), as `open_regular` does: one that was replaced
    between the look and the opening is looked at again, for to be replaced is this file's life.

    Raises:
        NotOursError, OSError: as from `open_regular`.
    """
    for last in (*[False] * (_REPLACED - 1), True):
        try:
            return open_regular(parent, name, device)[0]
        except NotOursError as error:
            if error.code != "changed" or last:
                raise
    raise AssertionError


def require_names(parent: int, name: str, known: os.stat_result, count: int, otherwise: str) -> None:
    """That a name still is that file's, and that it has `count` names in all. One look tells both.

    A count alone, from an open descriptor, may be right because the name looked at was just taken away, and then the
    file is somebody else's.

    Raises:
        VolumeError: `otherwise`.
    """
    named = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if not same_file(named, known) or named.st_nlink != count:
        raise VolumeError(otherwise)


def open_folder(parent: int, name: str, device: int) -> int:
    """Open the folder `name` (or `name/name`) below `parent`: real folders of `device`, none of them a mount
    point.

    Raises:
        NotOursError: a link, something else than a folder, or another file system stands there.
        OSError: as from open; FileNotFoundError means that the name doesn't exist in this folder.
    """
    try:
        return _open_below(parent, name, device)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise NotOursError("not-a-folder", f"{name!r} is a link or a file where our folder should be") from error
        if error.errno == errno.EXDEV:
            raise NotOursError("other-device", f"{name!r} is a mount point, not our folder") from error
        raise


def _walk_below(parent: int, name: str, device: int) -> int:
    """The way without openat2: a same-device bind mount passes here, as no portable call can tell it."""
    descriptor = parent
    for component in name.split("/"):
        above = descriptor
        try:
            descriptor = os.open(component, _FOLDER, dir_fd=above)
        finally:
            if above != parent:
                os.close(above)
        if os.fstat(descriptor).st_dev != device:
            os.close(descriptor)
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), component)
    return descriptor


class _OpenHow(ctypes.Structure):
    """`struct open_how` of openat2(2)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_SYS_OPENAT2 = 437  # the same on every architecture, as for all calls since Linux 5.0
_RESOLVE = 0x01 | 0x02 | 0x04 | 0x08  # NO_XDEV, NO_MAGICLINKS, NO_SYMLINKS, BENEATH


def _openat2() -> Callable[[int, str, int], int]:
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_OpenHow), ctypes.c_size_t)
    syscall.restype = ctypes.c_long
    how = ctypes.pointer(_OpenHow(_FOLDER, 0, _RESOLVE))  # the kernel only reads it: safe to share by threads
    size = ctypes.sizeof(_OpenHow)
    get_errno = ctypes.get_errno

    def open_below(parent: int, name: str, device: int) -> int:
        while True:
            descriptor: int = syscall(_SYS_OPENAT2, parent, os.fsencode(name), how, size)
            if descriptor >= 0:
                return descriptor
            number = get_errno()
            if number not in (errno.EINTR, errno.EAGAIN):
                raise OSError(number, os.strerror(number), name)

    return open_below


def _probe(parent: int, name: str, device: int) -> int:
    """Choose at the first use: a kernel before 5.6 hasn't the call, and old container profiles refuse it."""
    global _open_below
    _open_below = _walk_below
    if sys.platform == "linux":
        try:
            candidate = _openat2()
            os.close(candidate(parent, ".", device))
            _open_below = candidate
        except (OSError, AttributeError):
            pass
    return _open_below(parent, name, device)


_open_below: Callable[[int, str, int], int] = _probe
