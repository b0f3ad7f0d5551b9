"""prometheus_client's files of a process's figures, with room that is taken before it is written to.

It maps files full of holes into memory. Who writes to a hole on a full disk gets no error: the kernel kills the
process (SIGBUS), in the middle of somebody's request. So room is allocated first, and where there is none the process
counts on in memory, which no scrape sees, and says so once for each file.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client.mmap_dict import MmapedDict

log = logging.getLogger(__name__)

#: Bytes that a record takes beside its key, at most: the key's length, padding, value and time.
_RECORD = 4 + 8 + 16
_open: Callable[..., None] = MmapedDict.__init__
_init_value: Callable[..., None] = MmapedDict._init_value


def install() -> None:
    """From now on, for all figures of this process: also for an app's own, and those whose files are open already."""
    MmapedDict.__init__ = _open_allocated  # type: ignore[method-assign]
    MmapedDict._init_value = _init_value_allocated  # type: ignore[method-assign]


def _open_allocated(self: Any, filename: str, read_mode: bool = False) -> None:
    if read_mode:
        _open(self, filename, read_mode)
        return
    try:
        _create(filename)
        _open(self, filename)
    except OSError as error:
        # Raising leaves prometheus_client of a forked process with files that are closed, for as long as it lives.
        self._f, self._fname, self._positions = None, filename, {}
        self._m, self._capacity = mmap.mmap(-1, mmap.PAGESIZE), mmap.PAGESIZE
        self._used = 8
        self._m[:4] = self._used.to_bytes(4, sys.byteorder)
        _tell(filename, error)
    self._allocated = self._capacity


def _init_value_allocated(self: Any, key: str) -> None:
    size = self._capacity
    while self._used + len(key.encode()) + _RECORD > size:
        size *= 2
    if size > getattr(self, "_allocated", 0):  # 0: it was opened before `install`
        _grow(self, size)
    _init_value(self, key)


def _grow(self: Any, size: int) -> None:
    failure = None
    if self._f is not None:
        try:
            _allocate(self._fname, size)
            self._m = mmap.mmap(self._f.fileno(), size)
        except OSError as error:
            failure = error
            self._f.close()
            self._f = None
    if self._f is None:
        held = self._m[: self._used]  # behind it there may be holes, which can't even be read
        self._m = mmap.mmap(-1, size)
        self._m[: len(held)] = held
    self._capacity = self._allocated = size
    if failure is not None:
        _tell(self._fname, failure)


def _create(path: str) -> None:
    """It appears whole: a scrape fails at an empty file."""
    if os.path.exists(path):  # of a process that had this one's pid before
        _allocate(path, max(os.path.getsize(path), mmap.PAGESIZE))
        return
    unseen = f"{path}.new"
    try:
        _allocate(unseen, mmap.PAGESIZE, os.O_CREAT)
        os.rename(unseen, path)
    except OSError:
        Path(unseen).unlink(missing_ok=True)
        raise


def _allocate(path: str, size: int, create: int = 0) -> None:
    """Makes a file this large, without holes. Raises OSError: there is no room."""
    # not by prometheus_client's descriptor: where the C library must write zeros itself, it may not be for appending
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | create, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size)
        else:  # macOS, for development
            os.ftruncate(fd, size)
    finally:
        os.close(fd)


def _tell(path: str, error: OSError) -> None:
    text = (
        "what this process measures can't be shared in %s: %s; until it restarts, no scrape sees what it counts there. "
        "Give PROMETHEUS_MULTIPROC_DIR a disk that nothing else fills"
    )
    # From a thread: prometheus_client's lock is held here, and a handler that counts log lines would wait for it.
    thread = threading.Thread(target=log.error, args=(text, path, error.strerror), name="sessionsweep-metrics-log")
    with contextlib.suppress(RuntimeError):  # the process ends
        thread.start()
