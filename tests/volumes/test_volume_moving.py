"""Adopt and promote: bytes come in and go out whole, once, to nothing that exists, whatever crashes in between."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from volume_trees import put, session_path

from sessionsweep.errors import ResourceNotFoundError, ResourceTooLargeError, VolumeError, VolumeIOError
from sessionsweep.model.ids import new_resource_id
from sessionsweep.volumes.volume import Outcome, Volume


@pytest.fixture(params=["same", "other"])
def outside(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder of the app's, on the volume's file system and on another one."""
    if request.param == "same":
        folder = tmp_path / "app"
        folder.mkdir()
        yield folder
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as made:
        if os.stat(made).st_dev == os.stat(tmp_path).st_dev:
            pytest.fail("/dev/shm is on the file system of the temporary folder: moving between two can't be tried")
        yield Path(made)


def test_adopt_moves(volume: Volume, outside: Path, opening: str, sid: str, rid: str) -> None:
    source = outside / "upload.tmp"
    source.write_bytes(b"uploaded")
    source.chmod(0o644)
    assert volume.adopt(sid, rid, source, limit=8) == 8
    assert not source.exists()
    path = session_path(volume, sid) / rid
    assert path.read_bytes() == b"uploaded"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_nlink == 1


def test_adopt_refuses_what_is_too_large(volume: Volume, outside: Path, sid: str, rid: str) -> None:
    source = outside / "upload.tmp"
    source.write_bytes(b"uploaded")
    with pytest.raises(ResourceTooLargeError):
        volume.adopt(sid, rid, source, limit=7)
    assert source.read_bytes() == b"uploaded"
    assert volume.find(sid, rid) is None


def test_adopt_copies_what_others_could_go_on_writing(volume: Volume, tmp_path: Path, sid: str, rid: str) -> None:
    source, other = tmp_path / "upload", tmp_path / "other"
    source.write_bytes(b"shared")
    os.link(source, other)
    volume.adopt(sid, rid, source)
    other.write_bytes(b"changed")
    assert (session_path(volume, sid) / rid).read_bytes() == b"shared"
    assert not source.exists()


def test_adopt_spares_a_file_that_gets_a_second_name_while_we_look(
    volume: Volume, tmp_path: Path, sid: str, rid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, other = tmp_path / "upload", tmp_path / "other"
    source.write_bytes(b"theirs")
    source.chmod(0o644)
    real = os.link

    def link_first(*args: object, **kwargs: object) -> None:
        monkeypatch.setattr(os, "link", real)
        real(source, other)
        real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", link_first)
    with pytest.raises(VolumeError, match="another name"):
        volume.adopt(sid, rid, source)
    assert other.stat().st_mode & 0o777 == 0o644
    assert source.read_bytes() == b"theirs"
    assert volume.find(sid, rid) is None


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "absent", "folder-absent"])
def test_adopt_takes_regular_files_only(volume: Volume, outside: Path, sid: str, rid: str, kind: str) -> None:
    source, canary = outside / "source", outside / "canary"
    canary.write_bytes(b"canary")
    if kind == "link":
        source.symlink_to(canary)
    elif kind == "fifo":
        os.mkfifo(source)
    elif kind == "folder":
        source.mkdir()
    elif kind == "folder-absent":
        source = outside / "no" / "source"
    with pytest.raises(VolumeIOError if "absent" in kind else VolumeError):
        volume.adopt(sid, rid, source)
    assert canary.read_bytes() == b"canary"
    assert volume.find(sid, rid) is None


def test_adopt_refuses_the_volumes_own_files_however_named(volume: Volume, tmp_path: Path, sid: str, rid: str) -> None:
    owned = put(volume, sid, new_resource_id())
    by_link = tmp_path / "link"
    by_link.symlink_to(owned.parent)
    for source in (
        owned,
        by_link / owned.name,
        volume.root / "kept" / ".." / owned.relative_to(volume.root),
        volume.root / ".sessionsweep-volume",
        Path(os.path.relpath(owned)),
    ):
        with pytest.raises(VolumeError, match="own files"):
            volume.adopt(sid, rid, source)
        with pytest.raises(VolumeError, match="own files"):
            volume.promote(sid, owned.name, source.parent / "new")
    assert owned.exists()
    volume.verify()
    kept = volume.promote(sid, owned.name)
    assert volume.adopt(sid, rid, kept) == 7  # what was promoted is the app's


def test_adopt_replaces_nothing(volume: Volume, outside: Path, sid: str, rid: str) -> None:
    path, source = put(volume, sid, rid, b"first"), outside / "source"
    source.write_bytes(b"second")
    with pytest.raises(VolumeError, match="used once"):
        volume.adopt(sid, rid, source)
    assert (path.read_bytes(), source.read_bytes()) == (b"first", b"second")


def test_adopt_of_a_swapped_source_takes_it_back(
    volume: Volume, tmp_path: Path, sid: str, rid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, secret = tmp_path / "source", tmp_path / "secret"
    source.write_bytes(b"source")
    secret.write_bytes(b"secret")
    real = os.link

    def swap(name: str, *args: object, **kwargs: object) -> None:
        source.rename(tmp_path / "away")
        os.rename(secret, source)
        monkeypatch.setattr(os, "link", real)
        real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", swap)
    with pytest.raises(VolumeError, match="swapped"):
        volume.adopt(sid, rid, source)
    assert source.read_bytes() == b"secret"
    assert volume.find(sid, rid) is None


def test_adopt_leaves_what_took_the_sources_name_meanwhile(
    volume: Volume, outside: Path, sid: str, rid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, fresh = outside / "source", outside / "fresh"
    source.write_bytes(b"source")
    fresh.write_bytes(b"the app's next file")
    real = os.fsync

    def swap(descriptor: int) -> None:
        if fresh.exists():
            fresh.rename(source)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", swap)
    assert volume.adopt(sid, rid, source) == 6
    assert source.read_bytes() == b"the app's next file"
    assert (session_path(volume, sid) / rid).read_bytes() == b"source"


def test_promote_into_kept(volume: Volume, opening: str, sid: str, rid: str) -> None:
    put(volume, sid, rid, b"mine")
    inode = (session_path(volume, sid) / rid).stat().st_ino
    kept = volume.promote(sid, rid)
    assert kept == volume.root / "kept" / f"{sid}-{rid}"
    assert kept.stat().st_ino == inode
    assert not session_path(volume, sid).exists()
    assert volume.promote(sid, rid) == kept  # a repeat finds it done
    assert volume.delete(sid, [rid])[0].outcome is Outcome.GONE
    assert kept.read_bytes() == b"mine"
    with pytest.raises(ResourceNotFoundError):
        volume.promote(sid, new_resource_id())


def test_promote_makes_kept_anew_but_follows_no_link(volume: Volume, tmp_path: Path, sid: str, rid: str) -> None:
    put(volume, sid, rid)
    (volume.root / "kept").rmdir()
    (volume.root / "kept").symlink_to(tmp_path)
    with pytest.raises(VolumeError):
        volume.promote(sid, rid)
    (volume.root / "kept").unlink()
    assert volume.promote(sid, rid).read_bytes() == b"content"


def test_promote_to_the_apps_place(volume: Volume, outside: Path, sid: str, rid: str) -> None:
    put(volume, sid, rid, b"mine")
    target = outside / "song.wav"
    assert volume.promote(sid, rid, target) == target
    assert volume.promote(sid, rid, target) == target
    assert target.read_bytes() == b"mine"
    assert os.listdir(outside) == ["song.wav"]
    assert not session_path(volume, sid).exists()


def test_promote_replaces_nothing(volume: Volume, outside: Path, sid: str, rid: str) -> None:
    path, target = put(volume, sid, rid, b"mine"), outside / "song.wav"
    target.write_bytes(b"theirs")
    for _ in range(2):
        with pytest.raises(VolumeError, match="another place"):
            volume.promote(sid, rid, target)
    assert (path.read_bytes(), target.read_bytes()) == (b"mine", b"theirs")
    assert os.listdir(outside) == ["song.wav"]
    with pytest.raises(VolumeIOError, match="make it first"):
        volume.promote(sid, rid, outside / "no" / "song.wav")


def test_promote_follows_no_link_at_its_temporary_name(volume: Volume, outside: Path, sid: str, rid: str) -> None:
    put(volume, sid, rid, b"mine")
    canary = outside / "canary"
    canary.write_bytes(b"canary")
    (outside / f".{sid}-{rid}.part").symlink_to(canary)
    try:
        volume.promote(sid, rid, outside / "song.wav")
    except VolumeError as error:
        refused = "link stands" in str(error)
    else:
        refused = True  # renamed: the temporary name wasn't needed
    assert refused
    assert canary.read_bytes() == b"canary"


def test_promote_waits_for_the_writer(volume: Volume, outside: Path, sid: str, rid: str) -> None:
    file = volume.create(sid, rid)
    file.write(b"half")
    with pytest.raises(VolumeError, match="being written"):
        volume.promote(sid, rid, outside / "song.wav")
    file.close()
    with file.path.open("rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)  # a reader's pin is no reason to wait
        volume.promote(sid, rid, outside / "song.wav")


DYING = """
import os, sys
from pathlib import Path
from sessionsweep.volumes.volume import Volume
root, what, sid, rid, path, left = sys.argv[1:]
STEPS = "os.mkdir os.link os.remove os.rename os.rmdir os.truncate open fcntl.flock os.chmod".split()
volume, left = Volume.open(Path(root), "a"), int(left)
def die(event, args):
    global left
    if event in STEPS:
        left -= 1
        if left < 0: os._exit(9)
sys.addaudithook(die)
if what == "adopt": volume.adopt(sid, rid, Path(path))
elif path: volume.promote(sid, rid, Path(path))
else: volume.promote(sid, rid)
"""


def dying(volume: Volume, what: str, sid: str, rid: str, path: Path | str, check: Callable[[], None]) -> None:
    """Let a process die at each of its calls of the system in turn, repeat in full, and check."""
    for step in range(60):
        put_or_source(volume, what, sid, rid, path)
        command = [sys.executable, "-c", DYING, str(volume.root), what, sid, rid, str(path), str(step)]
        done = subprocess.run(command, timeout=60, check=False, capture_output=True)
        assert done.returncode in (0, 9), done.stderr
        check()
        if done.returncode == 0:
            assert step > 6, "the process was hardly ever killed"
            return
    pytest.fail("more than 60 steps")


def put_or_source(volume: Volume, what: str, sid: str, rid: str, path: Path | str) -> None:
    if what == "adopt":
        Path(path).write_bytes(b"mine")
    else:
        put(volume, sid, rid, b"mine")


def test_promote_killed_at_every_step_is_finished_by_a_repeat(
    volume: Volume, outside: Path, sid: str, rid: str
) -> None:
    target = outside / "song.wav"

    def check() -> None:
        volume.promote(sid, rid, target)
        assert target.read_bytes() == b"mine"
        assert os.listdir(outside) == ["song.wav"]
        assert volume.find(sid, rid) is None
        target.unlink()

    dying(volume, "promote", sid, rid, target, check)


def test_promote_into_kept_killed_at_every_step(volume: Volume, sid: str, rid: str) -> None:
    def check() -> None:
        kept = volume.promote(sid, rid)
        assert kept.read_bytes() == b"mine"
        assert kept.stat().st_nlink == 1
        assert volume.find(sid, rid) is None
        kept.unlink()

    dying(volume, "promote", sid, rid, "", check)


def test_adopt_killed_at_every_step_loses_no_byte(volume: Volume, outside: Path, sid: str, rid: str) -> None:
    source = outside / "source"

    def check() -> None:
        inside = session_path(volume, sid) / rid
        whole = [path for path in (source, inside) if path.exists() and path.read_bytes() == b"mine"]
        assert whole, "neither the source nor the resource has the bytes"
        volume.delete(sid, [rid])  # what an overdue intent becomes
        source.unlink(missing_ok=True)

    dying(volume, "adopt", sid, rid, source, check)
