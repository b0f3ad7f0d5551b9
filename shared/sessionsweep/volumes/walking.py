"""Walking all files of a volume, page by page, going on from a cursor, with memory that doesn't grow with the
tree.

The order is that of names, so that a cursor means something to the next pass, on another worker, days later.
A folder is read once for each slice of its names; only a folder with more names than a slice is read again.
What no pattern of ours matches is counted and never opened: folders in a session's folder, links, special
files, other file systems.
"""

from __future__ import annotations

import os
import stat
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes

from sessionsweep.errors import VolumeError
from sessionsweep.model.ids import is_resource_id
from sessionsweep.volumes import layout
from sessionsweep.volumes.deletion import Sighting
from sessionsweep.volumes.descriptors import NotOursError, errno_name, open_folder
from sessionsweep.volumes.tree import Tree

SLICE = 16_384  # names of one folder held in memory
EXAMPLES = 10  # strangers named in a page


@dataclass(slots=True)
class Page:
    """A part of the walk. `cursor`: where to go on; None: the walk is complete.

    `empty` are sessions whose folder held nothing. `strangers` counts what isn't ours by kind (`name`,
    `not-regular`, `not-a-folder`, `other-device`), `examples` names some, quoted. `unreadable` counts errors
    by errno: what lies there is unknown, not gone. `names` counts all names looked at.
    """

    found: list[Sighting] = field(default_factory=list)
    cursor: str | None = None
    empty: list[str] = field(default_factory=list)
    strangers: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    unreadable: Counter[str] = field(default_factory=Counter)
    names: int = 0


def walk(tree: Tree, cursor: str, limit: int, budget: float | None) -> Page:
    """The next page of at most `limit` files, in at most about `budget` seconds (None: no bound), but never
    no progress.

    Raises:
        VolumeError: the cursor isn't one of a walk's.
    """
    return _Walk(tree, cursor, limit, budget).page()


class _Walk:
    def __init__(self, tree: Tree, cursor: str, limit: int, budget: float | None) -> None:
        self._tree = tree
        self._after = _decode(cursor)
        self._limit = limit
        self._deadline = None if budget is None else time.monotonic() + budget
        self._page = Page()

    def page(self) -> Page:
        after = self._after
        # A cursor that names a folder and something in it goes on inside that folder; one that ends there
        # goes on after it.
        for fan_out in self._names(self._tree.files, after[:1], inside=len(after) > 1):
            below = after[1:] if after[:1] == [fan_out] else []
            if not self._fan_out(fan_out, below):
                return self._page
        return self._page

    def _fan_out(self, name: str, after: list[str]) -> bool:
        """Walk one fan-out folder; False: the page ends here and has its cursor."""
        if not layout.is_fan_out(name):
            self._stranger("name", name)
            return self._go_on(name)
        folder = self._open(self._tree.files, name, name)
        if folder < 0:
            return self._go_on(name)
        try:
            for session in self._names(folder, after[:1], name, inside=len(after) > 1):
                below = after[1:] if after[:1] == [session] else []
                if not self._session(folder, name, session, below):
                    return False
        finally:
            os.close(folder)
        return self._go_on(name)

    def _session(self, parent: int, fan_out: str, name: str, after: list[str]) -> bool:
        if not layout.is_session_folder(name, fan_out):
            self._stranger("name", fan_out, name)
            return self._go_on(fan_out, name)
        folder = self._open(parent, name, fan_out, name)
        if folder < 0:
            return self._go_on(fan_out, name)
        page, count, errors = self._page, 0, self._page.unreadable.total()
        try:
            for resource in self._names(folder, after[:1], fan_out, name):
                count += 1
                self._file(folder, fan_out, name, resource)
                if not self._go_on(fan_out, name, resource):
                    return False
        finally:
            os.close(folder)
        if count == 0 and not after and page.unreadable.total() == errors:
            page.empty.append(name)
        return self._go_on(fan_out, name)

    def _file(self, folder: int, fan_out: str, session_id: str, name: str) -> None:
        if not is_resource_id(name):
            self._stranger("name", fan_out, session_id, name)
            return
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError as error:
            self._page.unreadable[errno_name(error)] += 1
            return
        if not stat.S_ISREG(found.st_mode):
            self._stranger("not-regular", fan_out, session_id, name)
        elif found.st_dev != self._tree.device:
            self._stranger("other-device", fan_out, session_id, name)
        else:
            self._page.found.append(
                Sighting(session_id, name, found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)
            )

    def _open(self, parent: int, name: str, *path: str) -> int:
        """The folder's descriptor, or -1 when it is gone, unreadable or no folder of ours (counted)."""
        try:
            return open_folder(parent, name, self._tree.device)
        except FileNotFoundError:
            return -1
        except NotOursError as error:
            self._stranger(error.code, *path)
        except OSError as error:
            self._page.unreadable[errno_name(error)] += 1
        return -1

    def _names(self, folder: int, after: list[str], *path: str, inside: bool = False) -> Iterator[str]:
        """The folder's names in order, from after `after[0]` on (or from it on, when the cursor lies inside
        it).
        """
        last = after[0] if after else ""
        first = inside
        while True:
            names: list[str] = []
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.name > last or (first and entry.name == last):
                            names.append(entry.name)
                            if len(names) >= 2 * SLICE:
                                names.sort()
                                del names[SLICE:]
            except OSError as error:
                self._page.unreadable[errno_name(error)] += 1
                return
            names.sort()
            whole = len(names) < SLICE
            del names[SLICE:]
            self._page.names += len(names)
            yield from names
            if whole or not names:
                return
            last, first = names[-1], False

    def _stranger(self, kind: str, *path: str) -> None:
        self._page.strangers[kind] += 1
        if len(self._page.examples) < EXAMPLES:
            self._page.examples.append(_encode(path))

    def _go_on(self, *path: str) -> bool:
        """Whether the page has room and time for more; if not, `path` is where the next one goes on."""
        if len(self._page.found) < self._limit and (self._deadline is None or time.monotonic() < self._deadline):
            return True
        self._page.cursor = _encode(path)
        return False


def _encode(path: tuple[str, ...]) -> str:
    """Names may hold any byte but a slash: quoted, the cursor is printable ASCII that any store or log takes."""
    return "/".join(quote(os.fsencode(name), safe="") for name in path)


def _decode(cursor: str) -> list[str]:
    if not cursor:
        return []
    parts = cursor.split("/")
    if len(parts) > 3 or not cursor.isascii() or not all(parts):
        raise VolumeError(f"{cursor[:80]!r} is no cursor of a walk: begin again without one.")
    return [os.fsdecode(unquote_to_bytes(part)) for part in parts]
