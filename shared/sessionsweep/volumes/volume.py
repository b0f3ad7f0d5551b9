"""A volume: a marked root, opened; what the library does with files, it does through this."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from sessionsweep.errors import (
    ConfigurationError,
    ResourceNotFoundError,
    VolumeError,
    VolumeIOError,
    VolumeUntrustedError,
)
from sessionsweep.model.ids import NAME
from sessionsweep.volumes import deletion, layout, marker, moving, state, walking
from sessionsweep.volumes.deletion import Outcome, Removal, Sighting
from sessionsweep.volumes.descriptors import (
    NotOursError,
    errno_name,
    is_unlocked,
    open_regular,
    require_descriptors,
)
from sessionsweep.volumes.files import Grow, NewFile, create_locked
from sessionsweep.volumes.marker import Marker
from sessionsweep.volumes.ownership import ExclusiveLock, lock_marker
from sessionsweep.volumes.tree import Tree, open_root
from sessionsweep.volumes.walking import Page

__all__ = ["ExclusiveLock", "Marker", "NewFile", "Outcome", "Page", "Removal", "Sighting", "Volume"]


class Volume:
    """An opened volume. Keeps no descriptor, so it may be shared by threads, kept for long and inherited by
    forks.

    Every call opens the root anew and compares its marker with the one seen at `open`; a root that was
    unmounted, swapped or taken over by another deployment raises VolumeUntrustedError and nothing is done.
    `name` is this node's configured name.
    """

    def __init__(self, root: Path, name: str, raw_marker: bytes, *, ephemeral: bool = False) -> None:
        """Use `open` or `initialize`."""
        self.root = root
        self.name = name
        self.ephemeral = ephemeral
        self._raw = raw_marker
        self.marker = Marker.decode(raw_marker, str(root / layout.MARKER))

    @property
    def id(self) -> str:
        """The volume's id, from its marker."""
        return self.marker.volume_id

    @property
    def deployment_id(self) -> str:
        """The deployment that the volume belongs to, from its marker."""
        return self.marker.deployment_id

    @staticmethod
    def read_marker(path: Path) -> Marker | None:
        """The marker below `path`; None: the folder has none, or doesn't exist.

        Raises:
            VolumeUntrustedError: `marker-unreadable`, `marker-newer`, `root-unreadable`, `not-private`.
        """
        require_descriptors()
        try:
            root = open_root(path)
        except VolumeUntrustedError as error:
            if error.reason == "root-missing":
                return None
            raise
        try:
            raw = marker.read(root, os.fstat(root).st_dev, path)
        finally:
            os.close(root)
        return None if raw is None else Marker.decode(raw, str(path / layout.MARKER))

    @staticmethod
    def is_marked(path: Path) -> bool:
        """Whether something stands where a marker would, be it ours or not."""
        return os.path.lexists(path / layout.MARKER)

    @staticmethod
    def initialize(path: Path, name: str, deployment_id: str, *, ephemeral: bool = False) -> Volume:
        """Make the empty folder `path` a volume (made if only its parent exists), and open it.

        A folder that is a volume already is opened as it is; compare `deployment_id`.

        Raises:
            VolumeUntrustedError: `not-empty`, or as `open`.
            VolumeIOError: the folder can't be made or written.
            ConfigurationError: the name or the deployment id isn't of our pattern.
        """
        require_descriptors()
        path = _absolute(path)
        try:
            try:
                os.mkdir(path, layout.FOLDER_MODE)
            except FileExistsError:
                pass
            else:
                _sync_folder(path.parent)
            root = open_root(path)
            try:
                marker.initialize(root, os.fstat(root).st_dev, path, name, deployment_id)
            finally:
                os.close(root)
        except OSError as error:
            raise _io_error(f"making the volume {path}", error) from error
        return Volume.open(path, name, ephemeral=ephemeral)

    @staticmethod
    def open(path: Path, name: str, *, ephemeral: bool = False) -> Volume:
        """Open a volume.

        Raises:
            VolumeUntrustedError: its `reason` is `root-missing`, `root-unreadable`, `marker-missing`,
                `marker-unreadable`, `marker-newer`, `files-missing` or `not-private`.
        """
        require_descriptors()
        path = _absolute(path)
        with Tree(path, None) as tree:
            return Volume(path, name, tree.raw_marker, ephemeral=ephemeral)

    def verify(self) -> None:
        """See that the volume that was opened still lies under its path.

        Raises:
            VolumeUntrustedError: as `open`, or `marker-changed` (another volume, or another deployment's).
        """
        with self._tree():
            pass

    def restamp(self, deployment_id: str) -> None:
        """Give the volume to another deployment (`volumes adopt`). Other processes must open it anew.

        Raises:
            VolumeUntrustedError: as `verify`; `in-use`: somebody holds it exclusively.
        """
        if not NAME.match(deployment_id):
            raise ConfigurationError(f"The deployment id {deployment_id!r} is not one of the store's.")
        new = Marker(self.marker.volume_id, deployment_id, self.marker.name, self.marker.created_ms)
        lock = self.exclusive(self)
        try:
            with self._tree() as tree:
                marker.rewrite(tree.root, new)
        except OSError as error:
            raise _io_error(f"rewriting the marker of {self.root}", error) from error
        finally:
            lock.release()
        self.marker, self._raw = new, new.encode()

    def exclusive(self, owner: object) -> ExclusiveLock:
        """Take the volume for this process alone, until released or until the process ends.

        Those of this process that give an equal `owner` (the store they work on) share it; it is free once all of
        them have released it.

        Raises:
            VolumeUntrustedError: `in-use`, or as `verify`.
        """
        with self._tree() as tree:
            return lock_marker(tree, self.root, owner)

    def create(
        self, session_id: str, resource_id: str, *, limit: int | None = None, on_grow: Grow | None = None
    ) -> NewFile:
        """Create a resource's file under its final name, locked until it is closed; at most `limit` bytes.

        `on_grow(needed_bytes)` is asked for a higher limit before it is passed.

        Raises:
            VolumeError: the name exists, or an id isn't one.
            VolumeIOError: the disk refused.
            VolumeUntrustedError: as `verify`.
        """
        _check_ids(session_id, resource_id)
        path = self.root / layout.relative(session_id, resource_id)
        try:
            with self._tree() as tree:
                folder, descriptor = tree.in_session_folder(
                    session_id, lambda folder: (folder, create_locked(folder, resource_id)), keep=True
                )
                return NewFile(descriptor, folder, resource_id, path, limit, on_grow)
        except FileExistsError as error:
            raise VolumeError(f"{path} exists: a resource id is used once only.") from error
        except NotOursError as error:
            raise VolumeError(f"{path} can't be created: {error}.") from error
        except OSError as error:
            raise _io_error(f"creating {path}", error) from error

    def adopt(self, session_id: str, resource_id: str, source: Path, *, limit: int | None = None) -> int:
        """Move a file of the app's into the session; returns its size in bytes. Renamed where possible, else
        copied.

        Raises:
            ResourceTooLargeError: it has more than `limit` bytes; it stays where it is.
            VolumeError: no regular file, one of the volume's own, or the resource's name exists.
            VolumeIOError: the disk refused, or the source doesn't exist.
            VolumeUntrustedError: as `verify`.
        """
        _check_ids(session_id, resource_id)
        source = _absolute(source)
        try:
            with self._tree() as tree:
                return tree.in_session_folder(
                    session_id, lambda folder: moving.adopt(tree, folder, resource_id, source, limit)
                )
        except FileExistsError as error:
            raise VolumeError(f"{resource_id} exists: a resource id is used once only.") from error
        except NotOursError as error:
            raise VolumeError(f"{source} can't be adopted: {error}.") from error
        except OSError as error:
            raise _io_error(f"adopting {source}", error) from error

    def open_file(self, session_id: str, resource_id: str) -> BinaryIO:
        """Open a resource's file for reading. It stays readable when it is deleted meanwhile.

        Raises:
            ResourceNotFoundError: no such file, or no such ids.
            VolumeError: something else than a file of ours stands there.
            VolumeIOError: the disk refused.
            VolumeUntrustedError: as `verify`.
        """
        if not layout.are_ids(session_id, resource_id):
            raise ResourceNotFoundError(resource_id)
        try:
            with self._tree() as tree:
                folder = tree.session_folder(session_id)
                try:
                    descriptor, _ = open_regular(folder, resource_id, tree.device)
                finally:
                    os.close(folder)
        except FileNotFoundError as error:
            raise ResourceNotFoundError(resource_id) from error
        except NotOursError as error:
            raise VolumeError(f"{resource_id} can't be opened: {error}.") from error
        except OSError as error:
            raise _io_error(f"opening {resource_id}", error) from error
        return os.fdopen(descriptor, "rb")

    def find(self, session_id: str, resource_id: str, *, unlocked: bool = False) -> Sighting | None:
        """How a resource's file looks now; None: it certainly doesn't exist. `unlocked`: None, too, while somebody
        writes it.

        Raises:
            VolumeError, VolumeIOError, VolumeUntrustedError: nobody knows.
        """
        _check_ids(session_id, resource_id)
        try:
            with self._tree() as tree:
                folder = tree.session_folder(session_id)
                try:
                    descriptor, _ = open_regular(folder, resource_id, tree.device)
                finally:
                    os.close(folder)
                try:
                    if unlocked and not is_unlocked(descriptor):
                        return None
                    found = os.fstat(descriptor)  # not before: its writer may just have come to its end
                finally:
                    os.close(descriptor)
        except FileNotFoundError:
            return None
        except NotOursError as error:
            raise VolumeError(f"{resource_id} can't be looked at: {error}.") from error
        except OSError as error:
            raise _io_error(f"looking at {resource_id}", error) from error
        return Sighting(session_id, resource_id, found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)

    def delete(self, session_id: str, resource_ids: Sequence[str]) -> list[Removal]:
        """Delete some of a session's files; see `delete_many`."""
        return self.delete_many([(session_id, resource_ids)])

    def delete_many(self, batches: Iterable[tuple[str, Sequence[str]]]) -> list[Removal]:
        """Delete files of several sessions from one verified root: one `Removal` each, in order. Folders left
        empty go, too.

        What can't be deleted is an outcome, not an error, and keeps nothing else from its turn.

        Raises:
            VolumeUntrustedError: as `verify`; nothing was deleted.
        """
        with self._tree() as tree:
            return deletion.delete_many(tree, batches)

    def destroy_orphan(self, sighted: Sighting) -> Removal:
        """Delete a file only if it still is the inode, size and time that were sighted, and nobody holds its
        lock.

        Raises:
            VolumeUntrustedError: as `verify`.
        """
        with self._tree() as tree:
            return deletion.delete_sighted(tree, sighted)

    def prune(self, session_ids: Iterable[str]) -> int:
        """Remove those sessions' folders that are empty (a walk's `empty`); returns how many."""
        with self._tree() as tree:
            return sum(
                tree.remove_session_folder(sid) for sid in session_ids if layout.is_session_folder(sid, sid[2:4])
            )

    def promote(self, session_id: str, resource_id: str, to: Path | None = None) -> Path:
        """Move a resource out of its session's reach, into `kept` or to the app's place; returns where it
        lies.

        May be repeated after a crash at any step. Replaces nothing.

        Raises:
            ResourceNotFoundError: no such file, neither here nor where it should go.
            VolumeError: something else stands at `to`, `to` lies among the volume's files, or the file is
                being written.
            VolumeIOError: the disk refused.
            VolumeUntrustedError: as `verify`.
        """
        if not layout.are_ids(session_id, resource_id):
            raise ResourceNotFoundError(resource_id)
        target = None if to is None else _absolute(to)
        try:
            with self._tree() as tree:
                moving.promote(tree, session_id, resource_id, target)
        except NotOursError as error:
            raise VolumeError(f"{resource_id} can't be promoted: {error}.") from error
        except OSError as error:
            raise _io_error(f"promoting {resource_id}", error) from error
        return target or self.root / layout.KEPT / layout.kept_name(session_id, resource_id)

    def walk(self, cursor: str | None = None, *, limit: int = 1000, budget: float | None = None) -> Page:
        """The next page of all files, from `cursor` on (None: from the beginning); see walking.Page.

        Raises:
            VolumeUntrustedError: as `verify`.
        """
        with self._tree() as tree:
            return walking.walk(tree, cursor or "", max(1, limit), budget)

    def high_water(self) -> int | None:
        """The highest store time in ms that the volume has seen; None: none yet.

        Raises:
            VolumeUntrustedError: as `verify`; `state-unreadable`.
        """
        with self._tree() as tree:
            return state.read_high_water(tree.root, tree.device, self.root)

    def set_high_water(self, mark_ms: int, *, lower: bool = False) -> None:
        """Raise the mark; `lower` (an operator's word after a rollback) sets it whatever it was.

        Raises:
            VolumeIOError: the disk refused.
            VolumeUntrustedError: as `high_water`.
        """
        try:
            with self._tree() as tree:
                if not lower:
                    known = state.read_high_water(tree.root, tree.device, self.root)
                    if known is not None and known >= mark_ms:
                        return
                state.write_high_water(tree.root, mark_ms)
        except OSError as error:
            raise _io_error(f"writing the time mark of {self.root}", error) from error

    def __repr__(self) -> str:
        return f"Volume(name={self.name!r}, id={self.id!r}, root={str(self.root)!r})"

    def _tree(self) -> Tree:
        return Tree(self.root, self._raw)


def _absolute(path: Path) -> Path:
    """Fixed now, so that a later chdir(2) changes nothing. Links stay: they are the operator's."""
    return Path(os.path.abspath(os.fspath(path)))


def _check_ids(session_id: str, resource_id: str) -> None:
    if not layout.are_ids(session_id, resource_id):
        raise VolumeError(f"{session_id!r} and {resource_id!r} are not a session's and a resource's id.")


def _io_error(doing: str, error: OSError) -> VolumeIOError:
    if isinstance(error, VolumeIOError):
        return error
    return VolumeIOError(error.errno or 0, f"{doing} failed: {errno_name(error)}, {error.strerror or error}")


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
