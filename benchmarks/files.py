"""P9: deleting the files of ended sessions, each under its lock with its identity checked, against `rm -rf`."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.goals import Goal, Row, Scale, per_second
from sessionsweep.model.ids import new_resource_id, new_session_id, new_volume_id
from sessionsweep.volumes import layout
from sessionsweep.volumes.volume import Outcome, Volume

FILES, SIZE = 3, 1024
MEMORY = Path("/dev/shm")  # the disk's own noise is larger than what is measured


def delete_files(scale: Scale) -> list[Row]:
    """The same tree made anew for each side of each round."""
    sessions, rounds = (2000, 5) if scale.quick else (5000, 11)
    ours, theirs = list[float](), list[float]()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        volume = Volume.initialize(Path(folder) / "volume", "bench", new_volume_id())
        for _ in range(rounds):
            batches = make_tree(volume.root, sessions)
            begun = time.perf_counter()
            for at in range(0, sessions, 50):  # as many as reclaim hands over at once, with three files each
                removals = volume.delete_many(batches[at : at + 50])
                assert all(r.outcome is Outcome.DELETED for r in removals)
            ours.append(sessions * FILES / (time.perf_counter() - begun))
            make_tree(volume.root, sessions)
            fans = [str(path) for path in (volume.root / layout.FILES).iterdir()]
            begun = time.perf_counter()
            subprocess.run(["rm", "-rf", *fans], check=True)
            theirs.append(sessions * FILES / (time.perf_counter() - begun))
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    return [
        Row("P9", f"files deleted, {FILES} of {SIZE} bytes a session, against rm -rf of the same tree",
            per_second(statistics.median(ours)), per_second(statistics.median(theirs)), ratio, Goal(least=0.6)),
    ]  # fmt: skip


def make_tree(root: Path, sessions: int) -> list[tuple[str, list[str]]]:
    """Session folders with their files, by plain calls; what `delete_many` takes."""
    made, content = [], b"x" * SIZE
    for _ in range(sessions):
        sid, rids = new_session_id("00"), [new_resource_id(".wav") for _ in range(FILES)]
        folder = root / layout.FILES / layout.fan_out(sid) / sid
        os.makedirs(folder)
        for rid in rids:
            (folder / rid).write_bytes(content)
        made.append((sid, rids))
    return made
