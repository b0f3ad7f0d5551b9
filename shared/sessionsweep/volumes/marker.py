"""The marker file that makes a folder a volume: read, made once, and rewritten for another deployment.

A volume is known by its marker, not by its path or by its node's name: an unmounted disk leaves an empty
folder under the same path, and two disks can change places. So nothing is created or destroyed below a root
whose marker isn't there.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sessionsweep.errors import ConfigurationError, VolumeUntrustedError
from sessionsweep.model.ids import NAME, VOLUME_ID, new_volume_id, random_text
from sessionsweep.volumes import layout
from sessionsweep.volumes.descriptors import NotOursError, errno_name, make_folder, open_regular

FORMAT = 1
_LARGEST = 4096  # bytes; a marker has some 150


@dataclass(frozen=True, slots=True)
class Marker:
    """What a marker says. `created_ms` is the wall clock of the node that made it, for people only."""

    volume_id: str
    deployment_id: str
    name: str
    created_ms: int

    def encode(self) -> bytes:
        """The marker's file content."""
        content = {
            "format": FORMAT,
            "volume": self.volume_id,
            "deployment": self.deployment_id,
            "name": self.name,
            "created_ms": self.created_ms,
        }
        return json.dumps(content, indent=1).encode() + b"\n"

    @staticmethod
    def decode(raw: bytes, where: str) -> Marker:
        """The marker in `raw`; `where` names its path in the error.

        Raises:
            VolumeUntrustedError: no marker of ours (reason `marker-unreadable`) or a newer version's
                (`marker-newer`).
        """
        try:
            content = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise _unreadable(where, "it is no JSON") from error
        if not isinstance(content, Mapping):
            raise _unreadable(where, "it is no JSON object")
        version = content.get("format")
        if isinstance(version, int) and version > FORMAT:
            raise VolumeUntrustedError(
                "marker-newer",
                f"The volume marker {where} has format {version}, this version reads up to {FORMAT}: upgrade this "
                "node.",
            )
        volume, deployment = content.get("volume"), content.get("deployment")
        name, created = content.get("name"), content.get("created_ms")
        if version != FORMAT or not isinstance(volume, str) or not VOLUME_ID.match(volume):
            raise _unreadable(where, "it names no volume id")
        if not isinstance(deployment, str) or not NAME.match(deployment):
            raise _unreadable(where, "it names no deployment id")
        if not isinstance(name, str) or not NAME.match(name) or not isinstance(created, int):
            raise _unreadable(where, "its name or its date is damaged")
        return Marker(volume, deployment, name, created)


def read(root: int, device: int, path: Path) -> bytes | None:
    """The marker's content below the opened folder `root`; None: there is none.

    Raises:
        VolumeUntrustedError: reason `marker-unreadable`: a link, no regular file, too large, or an error of
            the disk.
    """
    where = str(path / layout.MARKER)
    try:
        descriptor, found = open_regular(root, layout.MARKER, device)
    except FileNotFoundError:
        return None
    except NotOursError as error:
        raise _unreadable(where, str(error)) from error
    except OSError as error:
        raise _unreadable(where, f"reading it failed with {errno_name(error)}") from error
    try:
        if found.st_size > _LARGEST:
            raise _unreadable(where, f"it has {found.st_size} bytes")
        return os.read(descriptor, _LARGEST)
    except OSError as error:
        raise _unreadable(where, f"reading it failed with {errno_name(error)}") from error
    finally:
        os.close(descriptor)


def initialize(root: int, device: int, path: Path, name: str, deployment_id: str) -> None:
    """Make the marker, and the folders beside it, in the empty folder `root`, unless somebody did so before.

    Of two racing callers link(2) lets one win; the other finds the winner's marker. The folders come before
    the marker, so that a marked root without them is damage, never an interrupted beginning.

    Raises:
        VolumeUntrustedError: reason `not-empty`, or as `read`.
        ConfigurationError: the name or the deployment id isn't of our pattern.
        OSError: the folder can't be written.
    """
    for what, text in (("volume name", name), ("deployment id", deployment_id)):
        if not NAME.match(text):
            raise ConfigurationError(
                f"The {what} {text!r} must be 1 to 63 letters, digits, dots, dashes or underscores "
                "(SESSIONSWEEP_VOLUMES)."
            )
    if read(root, device, path) is not None:
        return
    stranger = _stranger(root)
    if stranger is not None:
        if read(root, device, path) is not None:  # the winner of a race has begun to work here
            return
        raise VolumeUntrustedError(
            "not-empty",
            f"{path} is no volume and not empty (it holds {stranger!r}): name an empty folder, or mount the disk that "
            "belongs there.",
        )
    for folder in (layout.FILES, layout.KEPT):
        make_folder(folder, layout.FOLDER_MODE, root)
    marker = Marker(new_volume_id(), deployment_id, name, time.time_ns() // 1_000_000)
    temporary = f"{layout.MARKER}.{random_text(16)}"
    write_whole(root, temporary, marker.encode())
    try:
        with suppress(FileExistsError):  # the winner of a race
            os.link(temporary, layout.MARKER, src_dir_fd=root, dst_dir_fd=root, follow_symlinks=False)
    finally:
        os.unlink(temporary, dir_fd=root)
    os.fsync(root)


def rewrite(root: int, marker: Marker) -> None:
    """Replace the marker at once: a crash leaves the old one or the new one."""
    temporary = f"{layout.MARKER}.{random_text(16)}"
    write_whole(root, temporary, marker.encode())
    replace(root, temporary, layout.MARKER)


def write_whole(root: int, name: str, content: bytes) -> None:
    """Write a new file below `root` and see it on the disk. A failure leaves no file."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, layout.FILE_MODE, dir_fd=root)
    try:
        # Buffered only to be told of a short write as an error.
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        os.unlink(name, dir_fd=root)
        raise


def replace(root: int, temporary: str, name: str) -> None:
    """Rename over `name` and see it on the disk."""
    try:
        os.rename(temporary, name, src_dir_fd=root, dst_dir_fd=root)
    except BaseException:
        os.unlink(temporary, dir_fd=root)
        raise
    os.fsync(root)


def _stranger(root: int) -> str | None:
    """A name that says that this folder is somebody's. What an interrupted beginning of ours leaves doesn't
    count.
    """
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.name == "lost+found" or layout.TEMPORARY.match(entry.name):
                continue
            begun = entry.name in (layout.FILES, layout.KEPT) and entry.is_dir(follow_symlinks=False)
            if not (begun and _is_empty(root, entry.name)):
                return entry.name
    return None


def _is_empty(root: int, folder: str) -> bool:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    try:
        with os.scandir(descriptor) as entries:
            return next(entries, None) is None
    finally:
        os.close(descriptor)


def _unreadable(where: str, why: str) -> VolumeUntrustedError:
    return VolumeUntrustedError(
        "marker-unreadable",
        f"The volume marker {where} can't be trusted ({why}): restore it from a backup, or mount the right disk.",
    )
