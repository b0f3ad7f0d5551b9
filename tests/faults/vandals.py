"""Whoever else has a hand on the disks: sessions' files that are replaced, covered, held, opened or made undeletable.

The files are those of sessions of the vandal's own, so that what a client finds missing is never his doing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import stat
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from faults.disks import mount, umount
from faults.world import World
from sessionsweep import SessionSweepError


@dataclass
class Deed:
    """What was done to one file: whether that is still so, and how it is undone."""

    how: str
    path: Path
    stands: Callable[[], bool]
    undo: Callable[[], object]


class Vandal:
    """Works through the nodes of a world inside this process; `close` lets go of what is held."""

    def __init__(self, world: World, seed: str, *, mounts: bool) -> None:
        self._world = world
        self._dice = random.Random(f"{seed} vandal")
        self._using = ExitStack()
        self._hidden = world.folder / "hidden"
        self._hidden.mkdir()
        self.deeds: list[Deed] = []
        self._ways: list[Callable[[Path], Deed | None]] = [
            self._link, self._fifo, self._folder, self._immutable, self._held, self._opened, self._hard_link,
            self._folder_link,
        ]  # fmt: skip
        if mounts:
            self._ways += [self._bound, self._bound]

    def act(self) -> str:
        """A session with a file, something done to the file, and the session's end; what was done, "" if nothing."""
        node = self._world.nodes[self._dice.choice("ab")]
        way = self._dice.choice(self._ways)
        deed = None
        try:
            session, _ = node.sessions.create()
            _, path = node.write(session, volume=self._dice.choice([node.settings.node, "shared"]))
            deed = way(path)
            if deed is not None:
                self.deeds.append(deed)
            session.end()
        except (SessionSweepError, OSError):
            pass  # the storm was there first
        return way.__name__ if deed is not None else ""

    def still_stands(self) -> list[str]:
        """What was done and is so no more, though nobody but a sweep can have undone it."""
        return [f"{deed.how}: {deed.path}" for deed in self.deeds if not deed.stands()]

    def undo(self) -> None:
        """Leaves nothing of it; files that weren't replaced can be deleted."""
        for deed in self.deeds:
            deed.undo()
        self.close()

    def close(self) -> None:
        """Lets go of what is held."""
        self._using.close()

    def _replaced(self, how: str, path: Path, kind: Callable[[int], bool], undo: Callable[[], object]) -> Deed:
        return Deed(how, path, lambda: kind(path.lstat().st_mode), undo)

    def _link(self, path: Path) -> Deed:
        path.unlink()
        path.symlink_to(self._world.folder / "precious" / "file")
        return self._replaced("link", path, stat.S_ISLNK, path.unlink)

    def _fifo(self, path: Path) -> Deed:
        path.unlink()
        os.mkfifo(path)
        return self._replaced("FIFO", path, stat.S_ISFIFO, path.unlink)

    def _folder(self, path: Path) -> Deed:
        path.unlink()
        path.mkdir()
        return self._replaced("folder", path, stat.S_ISDIR, path.rmdir)

    def _folder_link(self, path: Path) -> Deed:
        """The session's folder is moved away, and a link leads to it."""
        away = self._hidden / path.parent.name
        away.mkdir()
        path.rename(path.parent / "Moved")  # no name of ours: whatever follows the link finds it
        (away / path.name).write_bytes(b"canary")
        kept = path.parent.with_name("Kept-" + path.parent.name)
        path.parent.rename(kept)
        path.parent.symlink_to(away)

        def undo() -> None:
            path.parent.unlink()
            (kept / "Moved").unlink()
            kept.rmdir()

        return Deed("folder's link", path, lambda: (away / path.name).read_bytes() == b"canary", undo)

    def _immutable(self, path: Path) -> Deed | None:
        if subprocess.run(["chattr", "+i", path], capture_output=True, check=False).returncode != 0:
            return None  # this file system has no such flag, or we aren't root
        return Deed("immutable", path, path.exists, lambda: subprocess.run(["chattr", "-i", path], check=True))

    def _held(self, path: Path) -> Deed:
        held = self._using.enter_context(path.open("r+b"))
        fcntl.flock(held, self._dice.choice([fcntl.LOCK_SH, fcntl.LOCK_EX]))
        return Deed("held", path, path.exists, lambda: None)

    def _opened(self, path: Path) -> Deed:
        """Open without a lock: it may go, and whoever reads it reads on."""
        content = path.read_bytes()
        opened = self._using.enter_context(path.open("rb"))

        def reads_on() -> bool:
            opened.seek(0)
            return opened.read() == content

        return Deed("opened", path, reads_on, lambda: None)

    def _hard_link(self, path: Path) -> Deed:
        """Another name of the same bytes keeps them."""
        other = path.parent.with_name("Other-" + path.name)
        os.link(path, other)
        return Deed("hard link", other, other.exists, other.unlink)

    def _bound(self, path: Path) -> Deed:
        """Another file is mounted over it; where its disk is unmounted and comes back, it comes back without."""
        other = self._hidden / path.name
        other.write_bytes(b"canary")
        mount("--bind", other, path)

        def undo() -> None:
            with contextlib.suppress(subprocess.CalledProcessError):
                umount(path)

        return Deed("bind mount", path, lambda: other.read_bytes() == b"canary", undo)
