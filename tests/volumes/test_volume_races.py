"""A thousand seeded races of everybody against everybody, an attacker among them: no canary is ever touched.

The attacker swaps links, hard links and FIFOs in at every level, in a loop, while files are created, deleted, adopted,
promoted and walked. Canaries with the very names that would be deleted lie beside the volume, above it, and inside it.
SESSIONSWEEP_RACES sets the number of seeds (`make scale`: 10,000), SESSIONSWEEP_RACE_SEED the first one.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sessionsweep.errors import SessionSweepError
from sessionsweep.model.ids import ALPHABET
from sessionsweep.volumes import descriptors
from sessionsweep.volumes.volume import Outcome, Volume

RACES = int(os.environ.get("SESSIONSWEEP_RACES", "300"))
FIRST = int(os.environ.get("SESSIONSWEEP_RACE_SEED", "1"))
PARTS = 4


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Race:
    """One seed's volume, canaries, and what each thread does to them."""

    def __init__(self, place: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.place = place
        self.volume = Volume.initialize(place / "v", "a", "d1")
        self.sessions = ["00" + self.text(18) for _ in range(2)]
        self.rids = [self.text(16) for _ in range(4)]
        self.canaries: dict[Path, tuple[int, int]] = {}  # inode, mode
        for base in (place, place / "beside", place / "beside" / "files", self.volume.root, self.volume.root / "kept"):
            for sid in self.sessions:
                for folder in (base, base / sid, base / sid[2:4] / sid):
                    for rid in self.rids:
                        self.canary(folder / rid)
        for sid in self.sessions:
            for name in ("canary", self.rids[0] + ".toolongsuffix", "é\n"):
                self.canary(self.folder(sid) / name)
        self.start = threading.Barrier(5)
        self.made: set[str] = set()
        self.tally: Counter[str] = Counter()
        self.turn = threading.Condition()
        self.steps = 0
        self.working = 4

    def let_work(self, steps: int) -> None:
        """The attacker leaves what it swapped in until the others took so many steps, or have finished."""
        with self.turn:
            wanted = self.steps + steps
            assert self.turn.wait_for(lambda: self.steps >= wanted or self.working == 0, 60)

    def stepped(self, *, done: bool = False) -> None:
        with self.turn:
            self.steps += 1
            self.working -= done
            self.turn.notify_all()

    def text(self, length: int) -> str:
        return "".join(self.rng.choice(ALPHABET) for _ in range(length))

    def folder(self, sid: str) -> Path:
        return self.volume.root / "files" / sid[2:4] / sid

    def canary(self, path: Path) -> None:
        if path in self.canaries:
            return
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_bytes(b"canary")
        path.chmod(0o644)
        self.canaries[path] = (path.stat().st_ino, path.stat().st_mode)

    def touched(self) -> list[str]:
        """What happened to canaries that should not have."""
        wrong = []
        for path, known in self.canaries.items():
            try:
                status = path.stat(follow_symlinks=False)
                found, content = (status.st_ino, status.st_mode), path.read_bytes()
            except OSError as error:
                wrong.append(f"{path}: {error}")
            else:
                if (found, content) != (known, b"canary"):
                    wrong.append(f"{path}: inode and mode {known} became {found}, it holds {content!r}")
        return wrong

    def work(self, seed: int, steps: int) -> Callable[[], None]:
        rng = random.Random(seed)

        def run() -> None:
            self.start.wait(30)
            for _ in range(steps):
                sid, rid = rng.choice(self.sessions), rng.choice(self.rids)
                action = rng.choice(
                    [self.create, self.create, self.delete, self.delete, self.promote, self.adopt, self.orphans]
                )
                # Whatever the attacker has in place, the answer is an outcome or a typed error.
                with contextlib.suppress(SessionSweepError):
                    action(rng, sid, rid)
                    self.tally[action.__name__] += 1
                self.stepped()

        def to_the_end() -> None:
            try:
                run()
            finally:
                self.stepped(done=True)

        return to_the_end

    def create(self, rng: random.Random, sid: str, rid: str) -> None:
        file = self.volume.create(sid, rid)
        file.write(b"ours" * rng.randrange(3))
        if rng.random() < 0.3:
            file.discard()
        file.close()

    def delete(self, rng: random.Random, sid: str, rid: str) -> None:
        for removal in self.volume.delete_many([(sid, [rid, rng.choice(self.rids)])]):
            self.tally[removal.outcome] += 1

    def promote(self, rng: random.Random, sid: str, rid: str) -> None:
        to = self.place / f"promoted-{rng.random()}" if rng.random() < 0.5 else None
        self.volume.promote(sid, rid, to)

    def adopt(self, rng: random.Random, sid: str, rid: str) -> None:
        source = self.place / f"source-{rng.random()}"
        source.write_bytes(b"theirs")
        self.volume.adopt(sid, rid, source)

    def orphans(self, rng: random.Random, sid: str, rid: str) -> None:
        page = self.volume.walk(limit=rng.choice([1, 100]))
        self.volume.prune(page.empty)
        for sighting in page.found:
            removal = self.volume.destroy_orphan(sighting)
            self.tally[removal.outcome] += 1

    def attack(self, seed: int, steps: int) -> Callable[[], None]:
        """Swap something in, and back again; what was there before is there after."""
        rng = random.Random(seed)

        def run() -> None:
            self.start.wait(30)
            for number in range(steps):
                sid, rid = rng.choice(self.sessions), rng.choice(self.rids)
                beside = self.place / "beside"
                level, instead = rng.choice(
                    [
                        (self.volume.root, beside),
                        (self.volume.root / "files", beside),
                        (self.folder(sid).parent, beside / sid[2:4]),
                        (self.folder(sid), beside / sid[2:4] / sid),
                        (self.folder(sid), beside / sid[2:4] / sid),
                        (self.folder(sid) / rid, beside / sid[2:4] / sid / rid),
                        (self.folder(sid) / rid, beside / sid[2:4] / sid / rid),
                    ]
                )
                away = self.place / f"away-{number}"
                is_file = level.name == rid
                try:
                    os.rename(level, away)
                except OSError:
                    continue
                with contextlib.suppress(OSError):
                    kind = rng.choice(["link", "hard", "fifo"] if is_file else ["link", "link", "fifo"])
                    if kind == "link":
                        level.symlink_to(instead)
                    elif kind == "hard":
                        os.link(instead, level)
                    else:
                        os.mkfifo(level)
                self.let_work(rng.randrange(4))
                if is_file:
                    # A file of ours; the canary's second name goes with the replacement.
                    with contextlib.suppress(OSError):
                        os.rename(away, level)
                    continue
                while True:
                    if level.is_symlink() or level.is_fifo():
                        level.unlink()
                    else:  # a creator may have made it anew meanwhile, and goes on filling it
                        shutil.rmtree(level, ignore_errors=True)
                    try:
                        os.rename(away, level)
                        break
                    except OSError:
                        continue

        return run


def race(place: Path, seed: int) -> Counter[str]:
    this = Race(place, seed)
    failures: list[BaseException] = []

    def guarded(call: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                call()
            except BaseException as error:
                failures.append(error)

        return run

    rng = random.Random(seed)
    calls = [this.work(rng.random().__hash__(), 12) for _ in range(4)] + [this.attack(rng.random().__hash__(), 25)]
    threads = [threading.Thread(target=guarded(call)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), f"seed {seed}: somebody hangs"
    assert not failures, f"seed {seed}: {failures!r}"
    assert this.touched() == [], f"seed {seed}"
    this.volume.verify()
    return this.tally


@pytest.mark.parametrize("part", range(PARTS))
def test_races_touch_no_canary(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if part % 2:
        monkeypatch.setattr(descriptors, "_open_below", descriptors._walk_below)
    place = Path(tempfile.mkdtemp(prefix="races-", dir="/dev/shm"))
    tally: Counter[str] = Counter()
    try:
        for seed in range(FIRST + part, FIRST + RACES, PARTS):
            (place / str(seed)).mkdir()
            tally += race(place / str(seed), seed)
            shutil.rmtree(place / str(seed))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    # The races raced: each thing was done, and the attacker was met.
    for what in ("create", "promote", "adopt", "orphans", Outcome.DELETED, Outcome.GONE, Outcome.FAILED):
        assert tally[what] > 0 or RACES < 100, f"{what} never happened: {tally}"


@pytest.mark.parametrize("level", ["fan-out", "session", "file"])
def test_a_link_swapped_in_by_another_process_while_deleting(tmp_path: Path, opening: str, level: str) -> None:
    """A process of its own swaps as fast as it can, so that no lock of the interpreter keeps it from any moment."""
    volume = Volume.initialize(tmp_path / "v", "a", "d1")
    sid, rids = "00" + "a" * 18, [f"{number:016d}" for number in range(8)]
    theirs = tmp_path / "theirs" / sid[2:4] / sid
    theirs.mkdir(parents=True)
    canaries = [theirs / rid for rid in rids]
    for canary in canaries:
        canary.write_bytes(b"canary")
    folder = volume.root / "files" / sid[2:4] / sid
    target, instead = {
        "fan-out": (folder.parent, theirs.parent),
        "session": (folder, theirs),
        "file": (folder / rids[0], theirs / rids[0]),
    }[level]
    away = tmp_path / "away"
    swapper = os.fork()
    if swapper == 0:
        try:
            while True:
                with contextlib.suppress(OSError):
                    if level == "file":  # over whatever is there, for the deleter takes our files away
                        os.symlink(instead, away)
                        os.rename(away, target)
                        os.unlink(target)
                        continue
                    os.rename(target, away)
                    os.symlink(instead, target)
                    os.unlink(target)
                    os.rename(away, target)
                    continue
                # The deleter or the creator was in between: begin again.
                with contextlib.suppress(OSError):
                    os.unlink(away) if level == "file" else shutil.rmtree(away)
        finally:
            os._exit(0)
    tally: Counter[str] = Counter()
    try:
        rounds, deadline = 0, time.monotonic() + 60
        met = ("not-a-folder", "not-regular", "changed", "ELOOP")
        while rounds < 500 or not tally["deleted"] or not any(tally[error] for error in met):
            assert time.monotonic() < deadline, f"the deleter never met the link: {tally}"
            rounds += 1
            for rid in rids:
                with contextlib.suppress(SessionSweepError):
                    volume.create(sid, rid).close()
            for removal in volume.delete(sid, rids):
                tally[removal.error or removal.outcome] += 1
    finally:
        os.kill(swapper, 9)
        os.waitpid(swapper, 0)
    assert [canary.read_bytes() for canary in canaries] == [b"canary"] * len(rids)
    assert len(os.listdir(theirs)) == len(rids)
