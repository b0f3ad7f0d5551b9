"""A file being written: under its final name and under its lock from the first byte on, never larger than it
may be.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sessionsweep.errors import ResourceNotFoundError, ResourceTooLargeError, VolumeError, VolumeIOError
from sessionsweep.volumes import inherited, layout
from sessionsweep.volumes.descriptors import NotOursError, errno_name, fcntl, open_regular, require_names, same_file
from sessionsweep.volumes.tree import remove_if_empty

CHUNK = 1 << 20  # bytes; what copying holds in memory
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)

Grow = Callable[[int], int]


def create_locked(folder: int, resource_id: str) -> int:
    """Create the file and lock it; returns its descriptor.

    Raises:
        FileExistsError: the name exists (ids are never used twice).
        FileNotFoundError: the folder was removed, or a deleter was between the creation and the lock.
    """
    descriptor = os.open(resource_id, _CREATE, layout.FILE_MODE, dir_fd=folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        links = os.fstat(descriptor).st_nlink
    except BaseException:
        os.close(descriptor)
        raise
    if links == 0:
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "deleted as soon as it was created", resource_id)
    return descriptor


class NewFile(io.BufferedIOBase):
    """A binary file, readable and writable. Not for several threads at once, except `discard` and `close`.

    Programs may write to `path` themselves, in place or by renaming a file over it: what lies there at
    `finish` counts. The lock is held from the first byte until `close`, so no reclaim cuts a file that is
    being written or committed. A forked child finds it closed.
    """

    def __init__(
        self, descriptor: int, folder: int, resource_id: str, path: Path, limit: int | None, on_grow: Grow | None
    ) -> None:
        """Take over both descriptors: the locked file's and its session folder's. `limit` in bytes; None:
        none.
        """
        self.path = path
        self.limit = limit
        self._id = resource_id
        self._folder = folder
        self._on_grow = on_grow
        self._raw = io.FileIO(descriptor, "r+")
        self._file = io.BufferedRandom(self._raw)
        self._end: int | None = None  # set by finish
        self._closing = threading.Lock()
        inherited.register(self)

    @property
    def size(self) -> int:
        """Bytes in the file; after `finish` or `close`, the size to commit."""
        if self._end is not None:
            return self._end
        self._file.flush()
        return os.fstat(self._raw.fileno()).st_size

    def write(self, data: Any) -> int:
        """Write bytes; `on_grow` is asked before the limit is passed.

        Raises:
            ResourceTooLargeError: they would pass the limit; none of them is written.
            VolumeIOError: the disk refused (ENOSPC, EIO); it is an OSError, too.
        """
        if isinstance(data, str):
            raise TypeError("a session's file holds bytes: encode the text, or wrap the file in io.TextIOWrapper")
        length = memoryview(data).nbytes
        try:
            self._make_room(self._file.tell() + length)
            return self._file.write(data)
        except OSError as error:
            raise self._failed("writing", error) from error

    def truncate(self, size: int | None = None) -> int:
        """Cut or lengthen the file to `size` bytes (None: the position)."""
        try:
            wanted = self._file.tell() if size is None else size
            self._make_room(wanted)
            return self._file.truncate(wanted)
        except OSError as error:
            raise self._failed("truncating", error) from error

    def copy_from(self, source: Any, write: Callable[[bytes], int] | None = None) -> int:
        """Copy a path, a binary file object, or an upload (Django's, Werkzeug's); returns the bytes copied.

        `write` replaces this file's own, for an owner that wraps it. The source is read to its end and not
        closed.

        Raises:
            TypeError: the source is none of these, or gives text.
        """
        put = self.write if write is None else write
        if isinstance(source, (str, os.PathLike)):
            with open(source, "rb", buffering=0) as opened:
                return _copy(_chunks(opened), put)
        if isinstance(source, (bytes, bytearray, memoryview)):
            raise TypeError("copy_from copies a path or a file; these are bytes already: use write")
        if callable(getattr(source, "chunks", None)):  # Django: from the upload's beginning
            return _copy(source.chunks(), put)
        if callable(getattr(source, "read", None)):
            return _copy(_chunks(source), put)
        if callable(getattr(source, "save", None)):
            sink = _Sink(put)
            source.save(sink)
            return sink.count
        raise TypeError(f"copy_from takes a path, a binary file or an upload, not {type(source).__name__}")

    def finish(self) -> int:
        """Flush, and return the size in bytes that lies under the name; the lock is held until `close`.

        Raises:
            ResourceTooLargeError: another program wrote more than the limit, and `on_grow` refused.
            ResourceNotFoundError: the name is gone.
            VolumeIOError: the disk refused.
        """
        if self._end is not None:
            return self._end
        try:
            self._file.flush()
            self._follow_name()
            end = os.fstat(self._raw.fileno()).st_size
        except FileNotFoundError as error:
            raise ResourceNotFoundError(self._id) from error
        except OSError as error:
            raise self._failed("finishing", error) from error
        self._make_room(end)
        self._end = end
        return end

    def close(self) -> None:
        """Finish if that wasn't done, and release the lock. Raises as `finish`; the lock is released all the
        same.
        """
        if self._raw.closed:
            self._release()
            return
        try:
            self.finish()
        finally:
            self._release()

    def discard(self) -> bool:
        """Remove the file, with its lock held, and close; whether our bytes are certainly gone.

        False: already closed, or something else stands under the name, or the disk refused. Harmless to
            repeat.
        """
        if self._raw.closed:
            return False
        try:
            self._follow_name()
            os.unlink(self._id, dir_fd=self._folder)
        except FileNotFoundError:
            return True
        except (OSError, VolumeError):
            return False
        else:
            # Best effort: an empty folder is found by the next deletion or orphan pass, too.
            remove_if_empty(self._folder, self.path.parent.name)
            return True
        finally:
            self._release()

    def let_go(self) -> None:
        """In a forked child: see inherited.py. What is buffered is the parent's to write."""
        self._closing = threading.Lock()  # a thread that the fork left behind may hold the other one
        self._release()

    def _release(self) -> None:
        with self._closing:
            # The raw file first: the buffered one then counts as closed and writes nothing more.
            self._raw.close()
            folder, self._folder = self._folder, -1
            if folder >= 0:
                os.close(folder)

    def _make_room(self, needed: int) -> None:
        if self.limit is None or needed <= self.limit:
            return
        if self._on_grow is not None:
            self.limit = self._on_grow(needed)
            if needed <= self.limit:
                return
        raise ResourceTooLargeError(
            "size",
            self.limit,
            f"{needed} bytes are more than the {self.limit} reserved for {self._id}: state a larger size.",
        )

    def _follow_name(self) -> None:
        """Programs that write to a temporary file rename it over ours: then that is the file, and it gets the
        lock.
        """
        here = os.fstat(self._raw.fileno())
        if same_file(os.stat(self._id, dir_fd=self._folder, follow_symlinks=False), here):
            return
        try:
            descriptor, found = open_regular(self._folder, self._id, here.st_dev, os.O_RDWR)
        except NotOursError as error:
            raise VolumeError(f"{self.path} is no longer the file that was being written: {error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            require_names(
                self._folder,
                self._id,
                found,
                1,
                f"{self.path} was replaced by a file that has other names, too: it isn't the session's.",
            )
            if stat.S_IMODE(found.st_mode) != layout.FILE_MODE:
                os.fchmod(descriptor, layout.FILE_MODE)
        except BaseException:
            os.close(descriptor)
            raise
        self._raw.close()
        self._raw = io.FileIO(descriptor, "r+")
        self._file = io.BufferedRandom(self._raw)

    def _failed(self, doing: str, error: OSError) -> VolumeIOError:
        if isinstance(error, VolumeIOError):
            return error
        return VolumeIOError(error.errno or 0, f"{doing} {self.path} failed with {errno_name(error)}")

    def read(self, size: int | None = -1) -> bytes:
        """Read from the position."""
        return self._file.read(-1 if size is None else size)

    def read1(self, size: int = -1) -> bytes:
        """Read with at most one call to the system."""
        return self._file.read1(size)

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer."""
        return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position; returns it."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The position in bytes."""
        return self._file.tell()

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        if self._raw.closed:
            return
        try:
            self._file.flush()
        except OSError as error:
            raise self._failed("writing", error) from error

    def fileno(self) -> int:
        """The descriptor; what is written through it counts at `finish`."""
        return self._raw.fileno()

    def readable(self) -> bool:
        """True."""
        return True

    def writable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    @property
    def closed(self) -> bool:
        """Whether the lock is released."""
        return self._raw.closed


class _Sink(io.RawIOBase):
    """What an upload's `save` writes to."""

    def __init__(self, put: Callable[[bytes], int]) -> None:
        self._put = put
        self.count = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._put(data)
        length = memoryview(data).nbytes
        self.count += length
        return length


def _chunks(source: Any) -> Iterator[bytes]:
    while chunk := source.read(CHUNK):
        yield chunk


def _copy(chunks: Iterator[bytes], put: Callable[[bytes], int]) -> int:
    count = 0
    for chunk in chunks:
        if not isinstance(chunk, (bytes, bytearray, memoryview)):
            if hasattr(chunk, "close"):
                chunk.close()  # a coroutine: Python would warn that nobody awaited it
            raise TypeError(
                f"the source gave {type(chunk).__name__}, not bytes: open it in binary mode; await an async upload "
                "through the async API"
            )
        put(chunk)
        count += memoryview(chunk).nbytes
    return count
