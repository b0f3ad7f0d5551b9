"""The disks of a schedule: real folders, with files around them that are not ours, and what can happen to a disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

from sessionsweep.model.ids import is_resource_id, is_session_id, new_resource_id, new_session_id
from sessionsweep.volumes import layout


class Disk:
    """One disk: `path` is where it lies now, `home` where it belongs."""

    def __init__(self, name: str, home: Path) -> None:
        self.name = name
        self.home = self.path = home
        self.volume_id = ""
        self.blocked: dict[str, Path] = {}  # relative path → where the file waits meanwhile

    def file(self, session_id: str, resource_id: str) -> Path:
        """Where a resource's bytes lie, mounted or not."""
        return self.path / layout.relative(session_id, resource_id)


class Disks:
    """All disks, and the canaries."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "disks").mkdir(parents=True)
        (folder / "away").mkdir()
        (folder / "aside").mkdir()
        self.all = {name: Disk(name, folder / "disks" / name) for name in ("a", "b", "shared")}
        self.faulty = False
        self._canaries: dict[Path, tuple[int, str]] = {}

    def plant(self) -> None:
        """Canaries above, beside and inside the roots, once these are volumes; notes the volumes' ids."""
        paths = [self.folder / "above.txt", self.folder / "disks" / "beside.txt"]
        for disk in self.all.values():
            disk.volume_id = _volume_id(disk.path)
            one, two = new_session_id("00"), new_session_id("00")
            rid = new_resource_id(".bin")
            paths += [
                disk.path / "own-notes.txt",
                disk.path / "files" / "README",
                disk.path / "files" / one[2:4] / "NOTES" / "notes.txt",
                disk.path / "files" / two[2:4] / two / "Notes.txt",
                disk.path / "kept" / f"{one}-{rid}",
            ]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"precious: {path}")
        self._canaries = {path: _look(path) for path in paths}

    def of(self, volume_id: str) -> Disk | None:
        """The disk that carries a volume, wherever it lies now."""
        return next((disk for disk in self.all.values() if disk.volume_id == volume_id), None)

    def unmount(self, name: str) -> None:
        """The disk goes; its empty mount point stays."""
        disk = self.all[name]
        if disk.path == disk.home:
            disk.path = self.folder / "away" / name
            disk.home.rename(disk.path)
            disk.home.mkdir(mode=0o700)
            self.faulty = True

    def swap(self, one: str, other: str) -> None:
        """Two disks change places."""
        first, second = self.all[one], self.all[other]
        if first.path == first.home and second.path == second.home:
            aside = self.folder / "away" / "swapping"
            first.path.rename(aside)
            second.path.rename(first.home)
            aside.rename(second.home)
            first.path, second.path = second.home, first.home
            self.faulty = True

    def block(self, disk: Disk, session_id: str, resource_id: str) -> bool:
        """Something that is no file stands under a file's name: it can't be deleted."""
        path = disk.file(session_id, resource_id)
        relative = layout.relative(session_id, resource_id)
        if relative in disk.blocked or not path.is_file():
            return False
        waits = self.folder / "aside" / resource_id
        path.rename(waits)
        path.mkdir()
        disk.blocked[relative] = waits
        return True

    def repair(self) -> None:
        """Every disk is at home, every file under its name."""
        homeless = [disk for disk in self.all.values() if disk.path != disk.home]
        for disk in homeless:
            aside = self.folder / "away" / f"back-{disk.name}"
            disk.path.rename(aside)
            disk.path = aside
        for disk in homeless:
            if disk.home.exists():
                disk.home.rmdir()  # a mount point in which somebody wrote is an error
            disk.path.rename(disk.home)
            disk.path = disk.home
        for disk in self.all.values():
            for relative, waits in disk.blocked.items():
                (disk.path / relative).rmdir()
                waits.rename(disk.path / relative)
            disk.blocked.clear()
        self.faulty = False

    def files(self) -> list[Path]:
        """Files of ours on all disks."""
        found = []
        for disk in self.all.values():
            for folder, _, names in os.walk(disk.path / layout.FILES):
                if is_session_id(os.path.basename(folder)):
                    found += [Path(folder, name) for name in names if is_resource_id(name)]
            found += [disk.path / relative for relative in disk.blocked]
        return found

    def kept(self) -> dict[str, bytes]:
        """Name → content of what was promoted, canaries apart."""
        folders = [disk.path / layout.KEPT for disk in self.all.values()]
        paths = [path for folder in folders for path in folder.iterdir() if path not in self._canaries]
        return {path.name: path.read_bytes() for path in paths}

    def harmed(self) -> list[str]:
        """The canaries that are not as they were; ask when every disk is at home."""
        return [str(path) for path, was in self._canaries.items() if _look(path) != was]


def _volume_id(root: Path) -> str:

    return str(json.loads((root / layout.MARKER).read_bytes())["volume"])


def _look(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_ino, path.read_text()
    except OSError as error:
        return 0, repr(error)
