"""One opened and verified root: the descriptors from which a batch of work on a volume starts.

The marker is read from the same descriptor from which the batch then walks down, so nothing can be mounted
over the path, or unmounted, between the check and the work.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from sessionsweep.errors import VolumeUntrustedError
from sessionsweep.volumes import layout, marker
from sessionsweep.volumes.descriptors import NotOursError, errno_name, make_folder, open_folder
from sessionsweep.volumes.private import require_owner, require_private

T = TypeVar("T")

# A creator makes the session's folder while a deleter removes it, empty, as often as both like. Each round
# needs a whole deletion in between, so running out of rounds means something else removes our folders.
_ROUNDS = 100


def open_root(path: Path) -> int:
    """Open a volume's root. Links in the configured path are the operator's own, so they are followed.

    Raises:
        VolumeUntrustedError: reason `root-missing`, `root-unreadable` or `not-private`.
    """
    try:
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise VolumeUntrustedError(
            "root-missing", f"The volume root {path} is no folder: mount its disk, or correct SESSIONSWEEP_VOLUMES."
        ) from error
    except OSError as error:
        raise VolumeUntrustedError(
            "root-unreadable",
            f"The volume root {path} can't be opened ({errno_name(error)}): see its permissions and disk.",
        ) from error
    try:
        require_private(os.fstat(root), path, sticky=True)
    except BaseException:
        os.close(root)
        raise
    return root


class Tree:
    """A verified root: descriptors of the root and of `files`, and the device they lie on. A context manager."""

    __slots__ = ("device", "files", "raw_marker", "root")

    def __init__(self, path: Path, expected: bytes | None) -> None:
        """Open `path` and verify its marker against the content `expected` (None: any marker).

        Raises:
            VolumeUntrustedError: `root-missing`, `root-unreadable`, `marker-missing`, `marker-unreadable`,
                `marker-changed` (another volume, or adopted by another deployment since), `files-missing`,
                `not-private`.
        """
        self.root = open_root(path)
        try:
            found = os.fstat(self.root)
            self.device = found.st_dev
            self.raw_marker = _require(marker.read(self.root, self.device, path), expected, path)
            try:
                self.files = open_folder(self.root, layout.FILES, self.device)
            except (NotOursError, OSError) as error:
                # An empty `files` made anew would turn every owed file into "already gone".
                raise VolumeUntrustedError(
                    "files-missing",
                    f"The volume {path} has its marker, but no usable folder {layout.FILES!r} ({error}): restore it.",
                ) from error
            try:
                ours = os.fstat(self.files)
                require_owner(ours, found, path / layout.FILES)
                require_private(ours, path / layout.FILES)
            except BaseException:
                os.close(self.files)
                raise
        except BaseException:
            os.close(self.root)
            raise

    def session_folder(self, session_id: str) -> int:
        """Open the session's folder. FileNotFoundError: it doesn't exist, below a root that is verified."""
        return open_folder(self.files, f"{layout.fan_out(session_id)}/{session_id}", self.device)

    def make_session_folder(self, session_id: str) -> int:
        """Open the session's folder, made if need be; a deleter may remove it again at any moment."""
        fan_out = layout.fan_out(session_id)
        for _ in range(_ROUNDS):
            try:
                return self.session_folder(session_id)
            except FileNotFoundError:
                make_folder(fan_out, layout.FOLDER_MODE, self.files)
                try:
                    upper = open_folder(self.files, fan_out, self.device)
                except FileNotFoundError:
                    continue
                try:
                    make_folder(session_id, layout.FOLDER_MODE, upper)
                except FileNotFoundError:
                    continue
                finally:
                    os.close(upper)
        return self.session_folder(session_id)

    def in_session_folder(self, session_id: str, work: Callable[[int], T], *, keep: bool = False) -> T:
        """Do `work` on the descriptor of the session's folder, again in a new one if a deleter removed it empty.

        `keep`: on success `work` has taken over the descriptor.
        """
        for _ in range(_ROUNDS):
            folder = self.make_session_folder(session_id)
            try:
                result = work(folder)
            except BaseException as error:
                gone = isinstance(error, FileNotFoundError) and os.fstat(folder).st_nlink == 0
                os.close(folder)
                if not gone:
                    raise
            else:
                if not keep:
                    os.close(folder)
                return result
        raise FileNotFoundError(errno.ENOENT, "its folder is removed again and again", session_id)

    def remove_session_folder(self, session_id: str) -> bool:
        """Remove the session's folder if it is empty; whether it was removed by this call."""
        try:
            folder = self.session_folder(session_id)
        except (NotOursError, OSError):
            return False
        try:
            return remove_if_empty(folder, session_id)
        finally:
            os.close(folder)

    def kept_folder(self) -> int:
        """Open `kept`, made if need be."""
        make_folder(layout.KEPT, layout.FOLDER_MODE, self.root)
        return open_folder(self.root, layout.KEPT, self.device)

    def __enter__(self) -> Tree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self.files)
        os.close(self.root)


def _require(raw: bytes | None, expected: bytes | None, path: Path) -> bytes:
    if raw is None:
        raise VolumeUntrustedError(
            "marker-missing",
            f"{path} holds no volume marker: its disk isn't mounted, or it was never initialized "
            "(`sessionsweep volumes init`).",
        )
    if expected is not None and raw != expected:
        raise VolumeUntrustedError(
            "marker-changed",
            f"{path} holds another volume, or another deployment's, than when it was opened: mount the right disk, "
            "or restart this process if that was meant.",
        )
    return raw


def remove_if_empty(folder: int, session_id: str) -> bool:
    """Remove the opened session folder if it is empty; rmdir(2) itself is the check, so racing creators are
    safe.

    The way back up from the descriptor reaches the folder that really holds it, whatever the path now leads
    to.
    """
    try:
        os.rmdir("../" + session_id, dir_fd=folder)
    except OSError:
        return False  # not empty, or removed by another deleter, or mounted upon: all fine
    return True
