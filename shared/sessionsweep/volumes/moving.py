"""Bytes that enter a session from a path of the app's (adopt), and that leave it to become the app's
(promote).

Both link the new name before they unlink the old one: a crash in between leaves both names, never none, and a
repeat sees one inode under two names and goes on. link(2) replaces nothing. Between file systems the bytes
are copied and synced first.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sessionsweep.errors import ResourceNotFoundError, ResourceTooLargeError, VolumeError, VolumeIOError
from sessionsweep.volumes import layout
from sessionsweep.volumes.descriptors import NotOursError, errno_name, fcntl, open_regular, require_names, same_file
from sessionsweep.volumes.files import CHUNK, create_locked
from sessionsweep.volumes.tree import Tree, remove_if_empty

# link(2) refused, though copying may do: another file system, one without hard links, or
# fs.protected_hardlinks.
_COPY_INSTEAD = frozenset({errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS})
_PART = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def adopt(tree: Tree, folder: int, resource_id: str, source: Path, limit: int | None) -> int:
    """Move `source` to the resource's name in the opened session `folder`; returns its size in bytes.

    A file that others could go on writing (another owner's, or one with further hard links) is copied, not
    renamed. Whatever goes wrong, the source keeps its bytes until the resource has them.
    """
    with _folder_of(source) as above:
        _refuse_ours(tree, above, source)
        try:
            descriptor, found = open_regular(above, source.name, None)
        except NotOursError as error:
            raise VolumeError(f"{source} can't be adopted: {error}. Name a regular file.") from error
        try:
            _check_size(found.st_size, limit, source)
            plain = found.st_nlink == 1 and found.st_uid == os.geteuid() and found.st_dev == tree.device
            if not (plain and _link(above, source.name, folder, resource_id, found)):
                size = _copy_in(descriptor, folder, resource_id, limit, source)
            else:
                try:
                    # The source's own name and ours, and no other: the count above may be old by now.
                    again = f"{source} can't be adopted: it got another name meanwhile; try again."
                    require_names(folder, resource_id, found, 2, again)
                    size = os.fstat(descriptor).st_size
                    _check_size(size, limit, source)
                    os.fchmod(descriptor, layout.FILE_MODE)
                    os.fsync(folder)
                except BaseException:
                    os.unlink(resource_id, dir_fd=folder)
                    raise
            _unlink_if_same(above, source.name, found)
            return size
        finally:
            os.close(descriptor)


def promote(tree: Tree, session_id: str, resource_id: str, target: Path | None) -> Path | None:
    """Move the resource to `target`, or into `kept` (then None is returned). A repeat finishes what a crash
    left.

    Raises:
        ResourceNotFoundError: neither the resource nor what it would have become exists.
        VolumeError: something else stands at the target, or the file is being written.
    """
    if target is None:
        above, name = tree.kept_folder(), layout.kept_name(session_id, resource_id)
        try:
            _promote(tree, session_id, resource_id, above, name, f"{layout.KEPT}/{name}")
        finally:
            os.close(above)
        return None
    with _folder_of(target) as above:
        _refuse_ours(tree, above, target)
        _promote(tree, session_id, resource_id, above, target.name, str(target))
    return target


def _promote(tree: Tree, session_id: str, resource_id: str, above: int, name: str, where: str) -> None:
    part = f".{layout.kept_name(session_id, resource_id)}.part"
    try:
        folder = tree.session_folder(session_id)
    except FileNotFoundError:
        _require_done(above, name, part, resource_id)
        return
    try:
        try:
            descriptor, found = open_regular(folder, resource_id, tree.device)
        except FileNotFoundError:
            _require_done(above, name, part, resource_id)
            return
        try:
            # Shared: readers may go on, but neither a writer nor a deleter comes in while the bytes are
            # moved.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if not _link_or_find(folder, resource_id, found, above, name, where):
                _copy_out(descriptor, above, name, part, where)
            os.fsync(above)
            _unlink_if_same(folder, resource_id, found)
            _unlink_quietly(above, part)
            remove_if_empty(folder, session_id)
        except BlockingIOError as error:
            raise VolumeError(f"{resource_id} is being written or deleted; promote it when that is done.") from error
        finally:
            os.close(descriptor)
    finally:
        os.close(folder)


def _require_done(above: int, name: str, part: str, resource_id: str) -> None:
    """The resource has gone; if it went where it should, an earlier call did all but perhaps tidying up."""
    try:
        done = stat.S_ISREG(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        done = False
    if not done:
        raise ResourceNotFoundError(resource_id)
    _unlink_quietly(above, part)


def _link_or_find(folder: int, resource_id: str, found: os.stat_result, above: int, name: str, where: str) -> bool:
    """Link the file to its new name, or find that an earlier call did; False: it must be copied."""
    try:
        return _link(folder, resource_id, above, name, found)
    except FileExistsError as error:
        there = os.stat(name, dir_fd=above, follow_symlinks=False)
        if same_file(there, found):
            return True
        if there.st_dev == found.st_dev:
            raise VolumeError(f"{where} exists and is another file: name another place.") from error
        return False  # perhaps the copy of an earlier call: _copy_out can tell


def _copy_out(source: int, above: int, name: str, part: str, where: str) -> None:
    """Copy to a temporary name, sync, and link to the final one. The temporary name stays: it proves the copy
    whole.
    """
    try:
        target = os.open(part, _PART, layout.FILE_MODE, dir_fd=above)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise VolumeError(f"a link stands where {where} would be copied to ({part}): remove it.") from error
        raise
    try:
        fcntl.flock(target, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_done(target, above, name, part, where):
            return
        os.ftruncate(target, 0)
        _copy(source, target, None, where)
        os.fsync(target)
        try:
            os.link(part, name, src_dir_fd=above, dst_dir_fd=above, follow_symlinks=False)
        except FileExistsError as error:
            raise VolumeError(f"{where} exists and is another file: name another place.") from error
    except VolumeError:
        if os.fstat(target).st_nlink == 1:
            _unlink_quietly(above, part)
        raise
    finally:
        os.close(target)


def _is_done(target: int, above: int, name: str, part: str, where: str) -> bool:
    """Whether an earlier call completed the copy: only then the temporary and the final name are one inode."""
    begun = os.fstat(target)
    if not stat.S_ISREG(begun.st_mode):
        raise VolumeError(f"no regular file stands where {where} would be copied to ({part}): remove it.")
    with suppress(FileNotFoundError):
        if same_file(os.stat(name, dir_fd=above, follow_symlinks=False), begun):
            return True
        raise VolumeError(f"{where} exists and is another file: name another place.")
    if begun.st_nlink != 1:
        raise VolumeError(f"{part} has further hard links: remove it.")
    return False


def _copy_in(source: int, folder: int, resource_id: str, limit: int | None, path: Path) -> int:
    """Copy into a new locked file, synced; a failure leaves no file."""
    target = create_locked(folder, resource_id)
    try:
        try:
            size = _copy(source, target, limit, str(path))
            os.fsync(target)
            os.fsync(folder)
        except BaseException:
            os.unlink(resource_id, dir_fd=folder)
            raise
        return size
    finally:
        os.close(target)


def _copy(source: int, target: int, limit: int | None, path: str) -> int:
    size = 0
    os.lseek(source, 0, os.SEEK_SET)
    while chunk := os.read(source, CHUNK):
        size += len(chunk)
        _check_size(size, limit, path)
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(target, rest) :]
    return size


def _check_size(size: int, limit: int | None, path: Path | str) -> None:
    if limit is not None and size > limit:
        raise ResourceTooLargeError(
            "size", limit, f"{path} has {size} bytes, which is more than the {limit} that it may have."
        )


def _link(above: int, name: str, to: int, new_name: str, found: os.stat_result) -> bool:
    """Give the inode `found` a second name; False: link(2) won't do here.

    Raises:
        FileExistsError: the new name exists.
        VolumeError: another file was swapped in under the old name; the new name was taken back.
    """
    try:
        os.link(name, new_name, src_dir_fd=above, dst_dir_fd=to, follow_symlinks=False)
    except OSError as error:
        if error.errno in _COPY_INSTEAD:
            return False
        raise
    linked = os.stat(new_name, dir_fd=to, follow_symlinks=False)
    if same_file(linked, found):
        return True
    os.unlink(new_name, dir_fd=to)
    raise VolumeError(f"{name!r} was swapped for another file while it was moved: try again.")


def _unlink_if_same(above: int, name: str, found: os.stat_result) -> None:
    """Remove the old name, unless it is gone or another file took it meanwhile: that one isn't ours to
    remove.
    """
    try:
        if same_file(os.stat(name, dir_fd=above, follow_symlinks=False), found):
            os.unlink(name, dir_fd=above)
    except FileNotFoundError:
        pass


def _unlink_quietly(above: int, name: str) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=above)


@contextmanager
def _folder_of(path: Path) -> Iterator[int]:
    """The opened folder of an app's own path. Links above the last component are the app's, so they are
    followed.
    """
    if path.name in ("", ".."):
        raise VolumeError(f"{str(path)!r} names no file.")
    try:
        above = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise VolumeIOError(
            error.errno or 0, f"the folder of {path} can't be opened ({errno_name(error)}): make it first."
        ) from error
    try:
        yield above
    finally:
        os.close(above)


def _refuse_ours(tree: Tree, above: int, path: Path) -> None:
    """Refuse the root's own files and all below `files`: they have owners already. `kept` is the app's.

    Going up from the descriptor, by identity: a comparison of path texts is fooled by links and by prefixes.
    """
    root, files = os.fstat(tree.root), os.fstat(tree.files)
    here = os.fstat(above)
    refused = same_file(here, root)
    descriptor = os.dup(above)
    try:
        while not refused:
            refused = same_file(here, files)
            parent = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = parent
            there = os.fstat(descriptor)
            if same_file(there, here):
                break
            here = there
    finally:
        os.close(descriptor)
    if refused:
        raise VolumeError(f"{path} lies among a volume's own files: name a path outside, or below {layout.KEPT!r}.")
