"""Checks from the outside when the traffic has ended: the disks against the visitors' record, canaries, books."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.load.deployed import Up
from benchmarks.load.probes import families, living_keys
from benchmarks.load.visitors import Visitor
from sessionsweep import Sessions, Settings
from sessionsweep.model.books import imbalance
from sessionsweep.model.ids import new_resource_id, new_session_id
from sessionsweep.store import operations as op
from sessionsweep.volumes.layout import FILES, KEPT, fan_out, relative


class Canaries:
    """Files beside and inside the volumes that only a mistake would destroy, each as it looked at the start."""

    def __init__(self, up: Up) -> None:
        self._seen = {path: _look(path) for path in _plant(up.folder / "precious", list(up.volumes.values()))}

    def __contains__(self, path: Path) -> bool:
        return path in self._seen

    @property
    def harmed(self) -> list[str]:
        """Those that look otherwise now."""
        return [str(path) for path, seen in self._seen.items() if _look(path) != seen]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._seen)


def _look(path: Path) -> tuple[int, str]:
    try:
        return path.lstat().st_ino, os.readlink(path) if path.is_symlink() else path.read_text()
    except OSError as error:
        return 0, repr(error)


def _plant(precious: Path, roots: Sequence[Path]) -> Iterator[Path]:
    """Names that look like ours but aren't, strangers' files, and links in places of ours to files that are not."""
    links: list[tuple[Path, Path]] = []
    decoys = [precious / "file"]
    for root in roots:
        one, two, three = (new_session_id("00") for _ in range(3))
        rid = new_resource_id(".wav")
        decoys += [
            precious / one / rid,
            root.with_name(root.name + "2") / relative(two, rid),  # a root without a marker
            root / "own-notes.txt",
            root / FILES / "README",
            root / FILES / "lost+found" / two / rid,
            root / FILES / fan_out(two) / two / "Notes.txt",
            root / KEPT / f"{two}-{rid}",
        ]
        links += [
            (root / FILES / fan_out(one) / one, precious / one),
            (root / FILES / fan_out(three) / three / rid, precious / "file"),
        ]
    for path in decoys:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"precious: {path}")
    for link, target in links:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    yield from decoys
    yield from (link for link, _ in links)


def living(up: Up, visitors: Sequence[Visitor]) -> tuple[int, list[str]]:
    """(how many files were looked at, what is wrong): each file of a session that is alive lies whole on some disk."""
    looked, wrong = 0, []
    for visitor in visitors:
        for rid, upload in visitor.files.items() if visitor.alive else ():
            looked += 1
            found = [root / relative(visitor.session_id, rid) for root in up.volumes.values()]
            contents = [path.read_bytes() for path in found if path.is_file()]
            if contents != [upload.content]:
                wrong.append(f"{visitor.session_id}/{rid}: {len(contents)} files, other than what was uploaded")
    return looked, wrong


def left(up: Up, canaries: Canaries) -> list[Path]:
    """Files where sessions' files lie, canaries apart."""
    known = [path for path in up.files() if path not in canaries]
    return [path for path in known if not path.is_symlink() and not path.parent.is_symlink() and path.is_file()]


def until_clean(up: Up, canaries: Canaries, within: float) -> float | None:
    """Seconds until no session, no file of one and nothing on the books is left; None: not within `within`."""
    begun = time.monotonic()
    with books_of(up) as store:
        while time.monotonic() - begun < within:
            if not left(up, canaries):
                books = store.execute(op.Counters("00"))
                # a session that never had a file is on no disk and in no book
                if not (books.get("active", 0) or books.get("owed", 0) or living_keys(families(up.client))):
                    return round(time.monotonic() - begun, 1)
            time.sleep(0.25)
    return None


def balance(up: Up) -> tuple[int, dict[str, int]]:
    """(the books' imbalance, the books)."""
    with books_of(up) as store:
        books = dict(store.execute(op.Counters("00")))
    return imbalance(books), books


@contextlib.contextmanager
def books_of(up: Up) -> Iterator[Sessions.store]:  # type: ignore[valid-type]
    """The deployment's store, read as any program may."""
    sessions = Sessions(Settings(redis_url=up.server.url, secret_key="x" * 40, node="observer"))
    try:
        yield sessions.store
    finally:
        sessions.close()
