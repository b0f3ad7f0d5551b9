"""P10: a whole orphan pass with its look-ups in the store, against `find -type f` of the same tree; memory flat."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.deployment import BATCH, Deployment, resource_id
from benchmarks.files import MEMORY
from benchmarks.goals import Goal, Row, Scale
from benchmarks.in_memory import resident
from sessionsweep.engine.orphans import Orphans
from sessionsweep.model.resource import volume_location
from sessionsweep.store import operations as op
from sessionsweep.volumes import layout

EACH = 10  # files a session


def orphan_pass(scale: Scale) -> list[Row]:
    """Every file is registered, as on a healthy volume; the files are empty, for their content is never read."""
    files = scale.sessions
    with (
        tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder,
        Deployment(volumes=f"bench={folder}/volume", node="bench") as d,
    ):
        orphans = Orphans(d.sessions.core, d.store)
        orphans.run_once(effort=1.0)  # mounts
        volume = d.sessions.core.mounts.here()[0]
        _fill(d, volume_location(volume.id), volume.root / layout.FILES, files)
        first, middle, ours = _pass(orphans, files)
        theirs = _find(volume.root / layout.FILES, files)
        _, _, again = _pass(orphans, files)
        theirs_again = _find(volume.root / layout.FILES, files)
    seconds, found = min(ours, again), min(theirs, theirs_again)
    return [
        Row("P10", f"orphan pass over {files:,} files, with look-ups, against find -type f", f"{seconds:.1f} s",
            f"{found:.2f} s", seconds / found, Goal(most=4)),
        Row("P10", "… growth of its memory from a tenth of the walk to its end", f"{middle / 2**20:.1f} MB",
            f"{first / 2**20:.1f} MB", (middle - first) / 2**20, Goal(most=10)),
    ]  # fmt: skip


def _pass(orphans: Orphans, files: int) -> tuple[int, int, float]:
    """A whole walk in slices: resident bytes after the first tenth, at the most, and seconds in all."""
    begun, seen, first, most = time.perf_counter(), 0, 0, 0
    while True:
        result = orphans.run_once(budget=max(0.2, files / 1e6), effort=1.0)
        assert not result.held, result
        assert result.candidates == result.readopted == 0, result
        seen += result.files
        most = max(most, resident())
        if not first and seen > files // 10:
            first = resident()
        if not result.more:
            break
    assert seen == files, f"{seen} of {files} files were seen"
    return first, most, time.perf_counter() - begun


def _find(folder: Path, files: int) -> float:
    begun = time.perf_counter()
    found = subprocess.run(["find", str(folder), "-type", "f"], check=True, capture_output=True).stdout
    seconds = time.perf_counter() - begun
    assert found.count(b"\n") == files
    return seconds


def _fill(d: Deployment, location: str, root: Path, files: int) -> None:
    ids = d.fill(files // EACH)
    for sid in ids:
        (root / layout.fan_out(sid) / sid).mkdir(parents=True)
    for begin in range(0, len(ids), BATCH // EACH):
        registered = [
            op.Register(sid, resource_id(), "f", location, 0, live=True)
            for sid in ids[begin : begin + BATCH // EACH]
            for _ in range(EACH)
        ]
        d.many(registered)
        for one in registered:
            (root / layout.fan_out(one.session_id) / one.session_id / one.resource_id).touch()
