"""The walk finds every file once, goes on from its cursor, keeps its memory, and opens nothing that isn't ours."""

from __future__ import annotations

import os
import random
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volume_trees import put, session_path

from sessionsweep.errors import VolumeError
from sessionsweep.model.ids import new_resource_id, new_session_id
from sessionsweep.volumes import walking
from sessionsweep.volumes.volume import Page, Volume


def pages(volume: Volume, limit: int, budget: float | None = None) -> list[Page]:
    done, cursor = [], None
    while True:
        page = volume.walk(cursor, limit=limit, budget=budget)
        done.append(page)
        assert len(page.found) <= limit
        cursor = page.cursor
        if cursor is None:
            return done
        assert cursor.isprintable()
        assert cursor.isascii()


@pytest.mark.parametrize("limit", [1, 2, 7, 1000])
def test_every_file_once_whatever_the_page(volume: Volume, opening: str, limit: int) -> None:
    expected = set()
    for _ in range(15):
        sid = new_session_id("00")
        for _ in range(3):
            rid = new_resource_id(".wav")
            status = put(volume, sid, rid, b"x" * len(expected)).stat()
            expected.add((sid, rid, status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev))
    found = [sighting for page in pages(volume, limit) for sighting in page.found]
    assert set(found) == expected
    assert len(found) == len(expected)


def test_no_time_still_makes_progress(volume: Volume) -> None:
    sid = new_session_id("00")
    for _ in range(5):
        put(volume, sid, new_resource_id())
    done = pages(volume, 1000, budget=0)
    assert sum(len(page.found) for page in done) == 5
    assert len(done) > 5


def test_strangers_are_counted_named_and_left(volume: Volume, opening: str, tmp_path: Path) -> None:
    sid, rid = new_session_id("00"), new_resource_id()
    put(volume, sid, rid)
    folder, files = session_path(volume, sid), volume.root / "files"
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / new_resource_id()).write_bytes(b"canary")
    outside = new_session_id("00")
    awkward = [b"new\nline", b"\xff\xfe", b"a b", b"%2F", b"x" * 255]
    for name in awkward:
        (Path(os.fsdecode(os.fsencode(folder) + b"/" + name))).write_bytes(b"")
        (Path(os.fsdecode(os.fsencode(files) + b"/" + name))).mkdir()
    (folder / new_resource_id()).symlink_to(canary)
    os.mkfifo(folder / new_resource_id())
    (folder / new_resource_id()).mkdir()
    (folder.parent / (outside[:2] + sid[2:4] + outside[4:])).symlink_to(canary)
    (folder.parent / (outside[:2] + sid[2:4] + "0" * 16)).write_bytes(b"")
    os.mkfifo(folder.parent / (outside[:2] + sid[2:4] + "1" * 16))
    misplaced = "00" + ("zz" if sid[2:4] != "zz" else "yy") + "0" * 16
    (folder.parent / misplaced).mkdir()  # a session's folder where none of its files would be looked for
    expected = {"name": 2 * len(awkward) + 1, "not-regular": 3, "not-a-folder": 3}
    for limit in (1, 1000):
        for budget in (None, 0.0):
            done = pages(volume, limit, budget)
            assert sum((page.strangers for page in done), Counter()) == Counter(expected)
            assert [sighting.resource_id for page in done for sighting in page.found] == [rid]
    page = volume.walk()
    assert len(page.examples) == walking.EXAMPLES
    assert all(example.isascii() and example.isprintable() for example in page.examples)
    assert not page.unreadable


def test_empty_folders_are_told(volume: Volume, opening: str) -> None:
    sid = new_session_id("00")
    path = put(volume, sid, new_resource_id())
    assert volume.walk().empty == []
    path.unlink()
    assert volume.walk().empty == [sid]
    assert volume.prune(volume.walk().empty) == 1
    assert volume.walk().empty == []


def test_kept_is_never_walked(volume: Volume) -> None:
    sid, rid = new_session_id("00"), new_resource_id()
    put(volume, sid, rid)
    volume.promote(sid, rid)
    inside = volume.root / "kept" / "files" / sid[2:4] / sid / rid
    inside.parent.mkdir(parents=True)
    inside.write_bytes(b"x")
    page = volume.walk()
    assert (page.found, page.names) == ([], 1)  # the fan-out folder


def test_an_unreadable_folder_is_unknown_not_empty(
    volume: Volume, opening: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sid, rid = new_session_id("00"), new_resource_id()
    inode = put(volume, sid, rid).parent.stat().st_ino
    real = os.scandir

    def broken(folder: int) -> object:
        if os.fstat(folder).st_ino == inode:
            raise OSError(5, "a disk that breaks can't be had here")
        return real(folder)

    monkeypatch.setattr(os, "scandir", broken)
    page = volume.walk()
    assert (page.found, page.empty, dict(page.unreadable)) == ([], [], {"EIO": 1})


@pytest.mark.parametrize("cursor", ["a/b/c/d", "//", "ä", "/"])
def test_no_cursor_of_ours(volume: Volume, cursor: str) -> None:
    with pytest.raises(VolumeError, match="begin again"):
        volume.walk(cursor)


@given(st.text(max_size=60))
def test_any_cursor_walks_or_is_refused(tmp_path_factory: pytest.TempPathFactory, cursor: str) -> None:
    volume = Volume.initialize(tmp_path_factory.getbasetemp() / "cursor", "a", "d1")
    message = "cursor"
    try:
        assert volume.walk(cursor).found == []
    except VolumeError as error:
        message = str(error)
    assert "cursor" in message


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 9))
def test_what_stays_is_found_once_while_the_tree_changes(
    tmp_path_factory: pytest.TempPathFactory, seed: int, limit: int
) -> None:
    rng = random.Random(seed)
    volume = Volume.initialize(tmp_path_factory.mktemp("walk") / "v", "a", "d1")
    stays, comes = [(new_session_id("00"), new_resource_id()) for _ in range(12)], []
    for sid, rid in stays:
        put(volume, sid, rid)
    found, cursor = [], None
    while True:
        page = volume.walk(cursor, limit=limit)
        found += [(sighting.session_id, sighting.resource_id) for sighting in page.found]
        cursor = page.cursor
        if cursor is None:
            break
        if comes and rng.random() < 0.5:
            volume.delete(comes[-1][0], [comes.pop()[1]])
        sid, rid = rng.choice(stays)[0] if rng.random() < 0.5 else new_session_id("00"), new_resource_id()
        put(volume, sid, rid)
        comes.append((sid, rid))
        if len(found) > 500:
            break  # it may follow what is made before it
    counted = Counter(found)
    assert all(counted[known] == 1 for known in stays) or len(found) > 500
    assert max(counted.values(), default=1) == 1


def test_slices_of_a_wide_folder(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "SLICE", 16)
    sid = new_session_id("00")
    rids = {new_resource_id() for _ in range(200)}
    for rid in rids:
        put(volume, sid, rid)
    for limit in (1, 5, 16, 17, 1000):
        found = [sighting.resource_id for page in pages(volume, limit) for sighting in page.found]
        assert (set(found), len(found)) == (rids, 200)


def test_memory_is_bounded_by_the_slice_not_by_the_folder(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "SLICE", 500)
    sid = new_session_id("00")
    put(volume, sid, new_resource_id())
    folder = os.open(session_path(volume, sid), os.O_RDONLY)
    for number in range(20_000):
        os.close(os.open(f"{number:016d}", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=folder))
    os.close(folder)
    tracemalloc.start()
    try:
        page = volume.walk(limit=100)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(page.found) == 100
    assert peak < 600_000, "20,000 names would take 1.4 MB and more"
