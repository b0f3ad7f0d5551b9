"""Several processes, or threads of one, that mount a new volume at the same moment: every interleaving of the two."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sessionsweep.settings import VolumeSpec
from sessionsweep.store import operations as op
from sessionsweep.store.flow import Flow, Work, run
from sessionsweep.store.memory import MemoryStore
from sessionsweep.volumes.mounting import Mounts

STEPS = 25  # more than mounting takes


def one_by_one(flow: Flow[list[Any]], store: MemoryStore) -> Iterator[list[Any] | None]:
    """Drives a flow; yields None after each step, and its result at the end."""
    try:
        step = next(flow)
        while True:
            result = step.do() if isinstance(step, Work) else store.execute(step)
            yield None
            step = flow.send(result)
    except StopIteration as done:
        yield done.value


@pytest.mark.parametrize("exclusive", [False, True], ids=["shared", "memory"])
@pytest.mark.parametrize("at", range(STEPS))
def test_two_that_make_one_volume_at_once_both_mount_it(tmp_path: Path, at: int, exclusive: bool) -> None:
    store = MemoryStore()
    spec = VolumeSpec("a", str(tmp_path / "v"))
    slow, quick = (Mounts("node", [spec], exclusive=exclusive) for _ in range(2))
    results: list[Any] = []
    problems: list[Any] = ["unfinished"]
    for number, result in enumerate(one_by_one(slow.mount(), store)):
        if number == at:
            problems = run(quick.mount(), store)
        results.append(result)
    if at < len(results):
        assert (results[-1], problems) == ([], [])
        assert slow.here()[0].id == quick.here()[0].id
        assert store.execute(op.Table("holds")) == {}
    else:
        assert len(results) < STEPS
    slow.close()
    quick.close()


def test_a_fresh_memory_takes_the_id_of_the_volumes_that_are_there(tmp_path: Path) -> None:
    old, new = VolumeSpec("old", str(tmp_path / "old")), VolumeSpec("new", str(tmp_path / "new"))
    before = Mounts("node", [old], exclusive=True)
    assert run(before.mount(), MemoryStore()) == []
    before.close()
    store = MemoryStore()
    after = Mounts("node", [new, old], exclusive=True)
    assert run(after.mount(), store) == []
    assert {volume.deployment_id for volume in after.here()} == {store.execute(op.Meta())["deployment"]}
    after.close()
