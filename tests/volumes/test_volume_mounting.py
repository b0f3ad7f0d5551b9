"""Several processes, or threads of one, that mount a new volume at the same moment: every interleaving of the two."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sessionsweep.errors import VolumeNotHereError, VolumeUntrustedError
from sessionsweep.model.resource import volume_location
from sessionsweep.settings import VolumeSpec
from sessionsweep.store import operations as op
from sessionsweep.store.flow import Flow, Work, run
from sessionsweep.store.memory import MemoryStore
from sessionsweep.volumes import tree
from sessionsweep.volumes import volume as volume_module
from sessionsweep.volumes.mounting import Mounts
from sessionsweep.volumes.volume import Volume

STEPS = 25  # more than mounting takes


def one_by_one(flow: Flow[Any], store: MemoryStore) -> Iterator[Any]:
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


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[tuple[Mounts, MemoryStore]]:
    """Two volumes that are open."""
    store = MemoryStore()
    made = Mounts("node", [VolumeSpec(name, str(tmp_path / name)) for name in ("a", "b")])
    assert run(made.mount(), store) == []
    yield made, store
    made.close()


@pytest.fixture
def hanging(mounts: tuple[Mounts, MemoryStore], monkeypatch: pytest.MonkeyPatch) -> Mounts:
    """The same node after a restart: nothing is open, and whoever touches the disk of `a` would wait for ever."""
    before, _ = mounts
    open_root = tree.open_root

    def touch(path: Path) -> int:
        assert path.name != "a", "it touches the disk that hangs"
        return open_root(path)

    monkeypatch.setattr(tree, "open_root", touch)
    monkeypatch.setattr(volume_module, "open_root", touch)
    return Mounts("node", before.specs)


def test_what_lies_on_one_disk_opens_no_other(mounts: tuple[Mounts, MemoryStore], hanging: Mounts) -> None:
    before, store = mounts
    good = volume_location(before.here()[1].id)
    assert run(hanging.holding(good), store).name == "b"
    hanging.forget("b")
    assert run(hanging.for_new_files("b"), store).name == "b"
    hanging.forget("b")
    run(hanging.mount_for([good]), store)
    assert [volume.name for volume in hanging.here()] == ["b"]


def test_what_lies_on_another_node_opens_no_disk_that_was_mounted_here(
    mounts: tuple[Mounts, MemoryStore], hanging: Mounts
) -> None:
    _, store = mounts
    store.execute(op.TablePut("mounts", "other/c", "c" * 16))
    with pytest.raises(VolumeNotHereError) as problem:
        run(hanging.holding(f"v.{'c' * 16}"), store)
    assert problem.value.nodes == ("other",)


def test_a_silent_disk_is_not_touched_until_it_answers(mounts: tuple[Mounts, MemoryStore], hanging: Mounts) -> None:
    before, store = mounts
    bad, good = before.here()
    hanging.silence("a", True)
    assert run(hanging.mount(), store) == []
    assert [volume.name for volume in hanging.here()] == ["b"]
    with pytest.raises(VolumeNotHereError):
        run(hanging.holding(volume_location(bad.id)), store)
    before.silence("a", True)
    assert (before.here(), before.opened()) == ([good], [bad, good])
    with pytest.raises(VolumeNotHereError):
        run(before.holding(volume_location(bad.id)), store)
    before.silence("a", False)
    assert before.here() == [bad, good]


def test_a_forked_process_hears_of_a_disk_that_falls_silent(mounts: tuple[Mounts, MemoryStore]) -> None:
    ours, _ = mounts
    theirs = Mounts("node", ours.specs)
    theirs.watch_with(ours)
    (their_end, our_end), child = os.pipe(), os.fork()
    if child == 0:
        os.read(their_end, 1)
        os._exit(42 if theirs.is_silent("a") and not theirs.is_silent("b") else 1)
    ours.silence("a", True)
    os.write(our_end, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    os.close(their_end)
    os.close(our_end)


@pytest.mark.parametrize("swapped", [True, False], ids=["swapped", "carried from another node"])
def test_a_disk_that_lies_where_another_did_is_found(mounts: tuple[Mounts, MemoryStore], swapped: bool) -> None:
    before, store = mounts
    specs, wanted = before.specs, before.here()[0]
    if swapped:
        first, second = (Path(spec.path) for spec in specs)
        first.rename(first.with_name("x"))
        second.rename(first)
        first.with_name("x").rename(second)
        again = Mounts("node", specs)
    else:
        again = Mounts("other", [VolumeSpec("c", str(wanted.root))])
    assert run(again.holding(volume_location(wanted.id)), store).id == wanted.id


@pytest.mark.parametrize("at", range(STEPS))
def test_of_two_copies_that_are_mounted_at_once_one_is_refused(tmp_path: Path, at: int) -> None:
    store = MemoryStore()
    assert run(Mounts("other", [VolumeSpec("a", str(tmp_path / "a"))]).mount(), store) == []
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    ours = Mounts("node", [VolumeSpec(name, str(tmp_path / name)) for name in ("a", "b")])
    results: list[Any] = []
    problems: list[Any] = []
    for number, result in enumerate(one_by_one(ours.mount(["a"]), store)):
        if number == at:
            problems = run(ours.mount(["b"]), store)
        results.append(result)
    assert [problem.reason for problem in [*results[-1], *problems]] == ["twice-mounted"] * (at < len(results))
    assert len(ours.here()) == 1
    assert [row for row in store.execute(op.Table("mounts")) if row.startswith("node/")] == [
        f"node/{ours.here()[0].name}"
    ]


@pytest.mark.parametrize("at", range(STEPS))
def test_who_was_refused_for_a_copy_is_known_as_before(tmp_path: Path, at: int) -> None:
    """Two disks change places, and back while one is mounted. Did the store forget what lay there, the empty mount
    point of a disk that is away next would be a first start, and a volume be made in it."""
    store, paths = MemoryStore(), [tmp_path / name for name in "ab"]
    specs = [VolumeSpec(path.name, str(path)) for path in paths]

    def swap() -> None:
        paths[0].rename(tmp_path / "aside")
        paths[1].rename(paths[0])
        (tmp_path / "aside").rename(paths[1])

    assert run(Mounts("node", specs).mount(), store) == []
    swap()
    ours = Mounts("node", specs)
    for number, _ in enumerate(one_by_one(ours.mount(["a"]), store)):
        if number == at:
            swap()
    assert store.execute(op.Table("mounts")).keys() == {"node/a", "node/b"}
    shutil.rmtree(paths[0])
    paths[0].mkdir(mode=0o700)
    (problem,) = run(Mounts("node", specs).mount(["a"]), store)
    assert problem.reason == "marker-missing"
    assert not any(paths[0].iterdir())


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("by", ["name", "location"])
def test_a_volume_that_another_thread_closes_meanwhile_is_found_all_the_same(
    mounts: tuple[Mounts, MemoryStore], by: str, at: int
) -> None:
    ours, store = mounts
    wanted = ours.here()[0]
    flow = ours.for_new_files("a") if by == "name" else ours.holding(volume_location(wanted.id))
    results: list[Any] = []
    for number, result in enumerate(one_by_one(flow, store)):
        if number == at:
            ours.forget("a")
        results.append(result)
    assert results[-1].id == wanted.id


def test_a_volume_that_another_thread_has_opened_again_stays_open(mounts: tuple[Mounts, MemoryStore]) -> None:
    ours, store = mounts
    before = ours.here()[0]
    Volume.open(before.root, "a").restamp("0" * 16)  # adopted: what is open no longer is what lies there
    flow = ours.for_new_files("a")
    look = next(flow)
    assert isinstance(look, Work)
    with pytest.raises(VolumeUntrustedError) as problem:
        look.do()
    again = run(ours.for_new_files("a"), store)  # meanwhile
    assert again is not before
    with pytest.raises(StopIteration) as done:
        flow.throw(problem.value)
    assert done.value.value is again
    assert ours.at(volume_location(again.id)) is again


def test_a_volume_may_be_closed_while_another_is_looked_for(mounts: tuple[Mounts, MemoryStore]) -> None:
    ours, _ = mounts

    class Elsewhere(str):
        """A location; whoever compares it is interrupted by a thread that closes a volume."""

        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            ours.forget("a")
            return False

    assert ours.at(Elsewhere("v.x")) is None


def test_threads_look_for_volumes_while_another_closes_and_opens_them(mounts: tuple[Mounts, MemoryStore]) -> None:
    ours, store = mounts
    where = [volume_location(volume.id) for volume in ours.here()]
    problems: list[BaseException] = []
    over = threading.Event()

    def look() -> None:
        try:
            while not over.is_set():
                for location in where:
                    ours.at(location)
                with contextlib.suppress(VolumeNotHereError):  # closed at this very moment
                    run(ours.for_new_files("a"), store)
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=look) for _ in range(3)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for _ in range(300):
            ours.forget("a")
            assert run(ours.mount(), store) == []
    finally:
        over.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert problems == []
