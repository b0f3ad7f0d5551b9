"""Each outcome of a deletion is told apart, and only our own name of a regular, unlocked file ever goes."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from volume_trees import put, session_path

from sessionsweep.model.ids import new_resource_id, new_session_id
from sessionsweep.volumes import deletion
from sessionsweep.volumes.volume import Outcome, Removal, Volume


def outcome(volume: Volume, session_id: str, resource_id: str) -> tuple[Outcome, str]:
    (removal,) = volume.delete(session_id, [resource_id])
    return removal.outcome, removal.error


def test_gone_only_below_a_verified_root(volume: Volume, opening: str, sid: str, rid: str) -> None:
    assert outcome(volume, sid, rid) == (Outcome.GONE, "")  # no fan-out folder
    put(volume, sid, new_resource_id())
    assert outcome(volume, sid, rid) == (Outcome.GONE, "")  # no such name
    other = sid[:4] + "0" * 16
    assert outcome(volume, other, rid) == (Outcome.GONE, "")  # no session folder


def test_many_sessions_in_one_batch_keep_their_order(volume: Volume, opening: str) -> None:
    batches = []
    for number in range(40):
        sid, rids = new_session_id("00"), [new_resource_id() for _ in range(3)]
        for rid in rids[number % 3 :]:
            put(volume, sid, rid, b"x" * number)
        batches.append((sid, rids))
    removals = volume.delete_many(batches)
    assert [(r.session_id, r.resource_id) for r in removals] == [(s, r) for s, rids in batches for r in rids]
    for number, (sid, _) in enumerate(batches):
        mine = [r for r in removals if r.session_id == sid]
        gone = number % 3
        assert [r.outcome for r in mine] == [Outcome.GONE] * gone + [Outcome.DELETED] * (3 - gone)
        assert [r.size for r in mine] == [0] * gone + [number] * (3 - gone)
        assert not session_path(volume, sid).exists()
    assert volume.delete_many([]) == []


@pytest.mark.parametrize("kind", [fcntl.LOCK_EX, fcntl.LOCK_SH])
def test_a_locked_file_is_busy_until_released(volume: Volume, sid: str, rid: str, kind: int) -> None:
    other = new_resource_id()
    path = put(volume, sid, rid)
    put(volume, sid, other)
    with path.open("rb") as user:
        fcntl.flock(user, kind)
        removals = volume.delete(sid, [rid, other])
        assert [r.outcome for r in removals] == [Outcome.BUSY, Outcome.DELETED]
        assert path.read_bytes() == b"content"
    assert outcome(volume, sid, rid) == (Outcome.DELETED, "")


def test_a_hard_link_loses_our_name_only(volume: Volume, tmp_path: Path, sid: str, rid: str) -> None:
    path = put(volume, sid, rid, b"shared")
    canary = tmp_path / "canary"
    os.link(path, canary)
    (removal,) = volume.delete(sid, [rid])
    assert (removal.outcome, removal.size) == (Outcome.DELETED, 0)  # nothing was freed
    assert canary.read_bytes() == b"shared"


def make_socket(path: Path) -> None:
    # A socket's address has 108 bytes, a test's path has more.
    with socket.socket(socket.AF_UNIX) as made:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            made.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)


STRANGERS: dict[str, Callable[[Path], None]] = {
    "link": lambda path: path.symlink_to(path.parent / "canary"),
    "dangling": lambda path: path.symlink_to("/nonexistent"),
    "fifo": lambda path: os.mkfifo(path),
    "folder": lambda path: path.mkdir(),
    "socket": make_socket,
    "device": lambda path: os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3)),
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_what_is_no_regular_file_is_neither_opened_nor_removed(
    volume: Volume, opening: str, sid: str, rid: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(volume, sid, new_resource_id())
    folder = session_path(volume, sid)
    (folder / "canary").write_bytes(b"canary")
    try:
        STRANGERS[kind](folder / rid)
    except PermissionError:
        pytest.skip("making a device needs root")
    opened = _spy_on_open(monkeypatch)
    assert outcome(volume, sid, rid) == (Outcome.FAILED, "not-regular")
    assert rid not in opened
    assert os.path.lexists(folder / rid)
    assert (folder / "canary").read_bytes() == b"canary"


def _spy_on_open(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    opened: list[object] = []
    real = os.open

    def spy(path: object, *args: object, **kwargs: object) -> int:
        opened.append(path)
        return real(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", spy)
    return opened


@pytest.mark.parametrize("level", ["fan-out", "session"])
@pytest.mark.parametrize("kind", ["link", "file", "fifo"])
def test_no_folder_of_ours_is_no_way(
    volume: Volume, tmp_path: Path, opening: str, sid: str, rid: str, level: str, kind: str
) -> None:
    canary = tmp_path / "canary" / sid[2:4] / sid / rid
    canary.parent.mkdir(parents=True)
    canary.write_bytes(b"canary")
    place = session_path(volume, sid) if level == "session" else session_path(volume, sid).parent
    place.parent.mkdir(exist_ok=True)
    if kind == "link":
        place.symlink_to(canary.parent if level == "session" else canary.parent.parent)
    elif kind == "file":
        place.write_bytes(b"")
    else:
        os.mkfifo(place)
    assert outcome(volume, sid, rid) == (Outcome.FAILED, "not-a-folder")
    assert canary.read_bytes() == b"canary"


@pytest.fixture
def changeable(volume: Volume, sid: str, rid: str) -> Iterator[Path]:
    path = put(volume, sid, rid)
    yield path
    subprocess.run(["chattr", "-i", path], check=False, capture_output=True)


def test_an_immutable_file_fails_and_blocks_nobody(volume: Volume, changeable: Path, sid: str, rid: str) -> None:
    done = subprocess.run(["chattr", "+i", changeable], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        assert os.geteuid() != 0, f"root can't make a file immutable here, so this isn't tried: {done.stderr}"
        pytest.skip("making a file immutable needs root")
    others = [new_resource_id() for _ in range(99)]
    for other in others:
        put(volume, sid, other)
    removals = volume.delete(sid, [*others[:50], rid, *others[50:]])
    assert [r.outcome for r in removals].count(Outcome.DELETED) == 99
    assert (removals[50].outcome, removals[50].error) == (Outcome.FAILED, "EPERM")
    assert changeable.read_bytes() == b"content"
    subprocess.run(["chattr", "-i", changeable], check=True)
    assert outcome(volume, sid, rid) == (Outcome.DELETED, "")


def test_permissions_are_told_and_never_changed(sid: str, rid: str) -> None:
    """As nobody, when we are root: for root every file is readable."""
    place = Path(tempfile.mkdtemp(prefix="volumes-"))
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def as_nobody() -> None:
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        volume = Volume.initialize(place / "v", "a", "d1")
        path = put(volume, sid, rid)
        told: list[object] = []
        path.chmod(0)
        told += [outcome(volume, sid, rid), path.stat().st_mode & 0o777]
        path.chmod(0o600)
        path.parent.chmod(0o500)
        told.append(outcome(volume, sid, rid))
        path.parent.chmod(0)
        told.append(outcome(volume, sid, rid))
        path.parent.chmod(0o700)
        path.chmod(0o400)
        told.append(outcome(volume, sid, rid))
        theirs.send(told)

    try:
        if os.geteuid() == 0:
            os.chown(place, 65534, 65534)
        process = context.Process(target=as_nobody)
        process.start()
        process.join(30)
        assert process.exitcode == 0
        refused = (Outcome.FAILED, "EACCES")
        assert ours.recv() == [refused, 0, refused, refused, (Outcome.DELETED, "")]
    finally:
        shutil.rmtree(place)


def test_root_deletes_a_file_without_permissions(volume: Volume, sid: str, rid: str) -> None:
    path = put(volume, sid, rid)
    path.chmod(0)
    expected = (Outcome.DELETED, "") if os.geteuid() == 0 else (Outcome.FAILED, "EACCES")
    assert outcome(volume, sid, rid) == expected


def at_lock(monkeypatch: pytest.MonkeyPatch, then: Callable[[], None]) -> None:
    """Have something happen just before the deleter locks: the moment a racing process could take."""
    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        then()
        monkeypatch.setattr(fcntl, "flock", real)
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)


def test_a_file_swapped_in_between_open_and_lock_stays(
    volume: Volume, sid: str, rid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(volume, sid, rid, b"old")
    fresh = path.with_name("fresh")
    fresh.write_bytes(b"fresh")
    at_lock(monkeypatch, lambda: fresh.rename(path) and None)
    assert outcome(volume, sid, rid) == (Outcome.FAILED, "changed")
    assert path.read_bytes() == b"fresh"


def test_a_file_swapped_in_between_look_and_open_stays(
    volume: Volume, sid: str, rid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(volume, sid, rid, b"old")
    fresh = path.with_name("fresh")
    fresh.write_bytes(b"fresh")
    real = os.open

    def swap(name: object, *args: object, **kwargs: object) -> int:
        if name == rid:
            fresh.rename(path)
            monkeypatch.setattr(os, "open", real)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", swap)
    assert outcome(volume, sid, rid) == (Outcome.FAILED, "changed")
    assert path.read_bytes() == b"fresh"


@pytest.mark.parametrize("name", ["canary", "../canary", "./canary", "../../../kept/canary", "", ".", "..", "a\0b"])
def test_no_name_that_is_no_id_is_looked_at(volume: Volume, sid: str, rid: str, name: str) -> None:
    path = put(volume, sid, rid)
    canaries = [path.with_name("canary"), path.parent.parent / "canary", volume.root / "kept" / "canary"]
    for canary in canaries:
        canary.write_bytes(b"canary")
    assert outcome(volume, sid, name) == (Outcome.FAILED, "bad-id")
    assert [canary.read_bytes() for canary in canaries] == [b"canary"] * 3


def test_a_link_swapped_in_between_look_and_open_is_not_followed(
    volume: Volume, tmp_path: Path, sid: str, rid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, canary = put(volume, sid, rid), tmp_path / "canary"
    canary.write_bytes(b"canary")
    real = os.open

    def swap(name: object, *args: object, **kwargs: object) -> int:
        if name == rid:
            path.unlink()
            path.symlink_to(canary)
            monkeypatch.setattr(os, "open", real)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", swap)
    assert outcome(volume, sid, rid) == (Outcome.FAILED, "ELOOP")
    assert path.is_symlink()
    assert canary.read_bytes() == b"canary"


def test_a_fifo_swapped_in_between_look_and_open_blocks_nobody(
    volume: Volume, sid: str, rid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(volume, sid, rid)
    real = os.open

    def swap(name: object, *args: object, **kwargs: object) -> int:
        if name == rid:
            path.unlink()
            os.mkfifo(path)
            monkeypatch.setattr(os, "open", real)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", swap)
    found, error = outcome(volume, sid, rid)
    assert (found, error) == (Outcome.FAILED, "changed")
    assert path.exists()


def test_two_deleters_count_a_file_once(volume: Volume, sid: str, rid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(volume, sid, rid)
    other: list[Removal] = []
    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        other.extend(volume.delete(sid, [rid]))
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    mine = volume.delete(sid, [rid])
    assert [r.outcome for r in other + mine] == [Outcome.DELETED, Outcome.GONE]


def test_a_lock_that_wants_a_writing_descriptor(
    volume: Volume, sid: str, rid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS, which isn't at hand here, answers EBADF to an exclusive lock on a descriptor opened for reading."""
    real = fcntl.flock

    def nfs(descriptor: int, operation: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY and operation & fcntl.LOCK_EX:
            raise OSError(errno.EBADF, "as NFS does")
        real(descriptor, operation)

    path = put(volume, sid, rid)
    monkeypatch.setattr(fcntl, "flock", nfs)
    with path.open("rb+") as user:
        real(user, fcntl.LOCK_EX)
        assert outcome(volume, sid, rid) == (Outcome.BUSY, "")
    assert outcome(volume, sid, rid) == (Outcome.DELETED, "")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOLCK, errno.EMFILE, errno.EROFS])
@pytest.mark.parametrize("call", ["unlink", "flock", "fstat", "open"])
def test_an_error_is_unknown_never_gone(
    volume: Volume, sid: str, rid: str, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    """Disks that break can't be had here; the error is raised where the system would raise it."""
    path, other = put(volume, sid, rid), new_resource_id()
    put(volume, sid, other)
    inode = path.stat().st_ino
    module = fcntl if call == "flock" else os
    real = getattr(module, call)

    def broken(what: object, *args: object, **kwargs: object) -> object:
        same = what == rid if isinstance(what, str) else isinstance(what, int) and _inode(what) == inode
        if same:
            raise OSError(number, "broken")
        return real(what, *args, **kwargs)

    real_fstat = os.fstat

    def _inode(descriptor: int) -> int:
        return real_fstat(descriptor).st_ino

    monkeypatch.setattr(module, call, broken)
    removals = volume.delete(sid, [rid, other])
    assert [(r.outcome, r.error) for r in removals] == [
        (Outcome.FAILED, errno.errorcode[number]),
        (Outcome.DELETED, ""),
    ]
    assert path.exists()


def test_orphan_goes_only_as_sighted(volume: Volume, opening: str, sid: str, rid: str) -> None:
    path = put(volume, sid, rid)

    def sighted() -> deletion.Sighting:
        found = volume.find(sid, rid)
        assert found is not None
        return found

    seen = sighted()
    for changed in (
        seen._replace(inode=seen.inode + 1),
        seen._replace(device=seen.device + 1),
        seen._replace(size=seen.size + 1),
        seen._replace(mtime_ns=seen.mtime_ns + 1),
    ):
        assert volume.destroy_orphan(changed).outcome is Outcome.CHANGED
    with path.open("ab") as file:
        file.write(b"more")
    assert volume.destroy_orphan(seen).outcome is Outcome.CHANGED
    with path.open("rb") as user:
        fcntl.flock(user, fcntl.LOCK_SH)
        assert volume.destroy_orphan(sighted()).outcome is Outcome.BUSY
    removal = volume.destroy_orphan(sighted())
    assert (removal.outcome, removal.size) == (Outcome.DELETED, 11)
    assert not path.parent.exists()
    assert volume.destroy_orphan(seen).outcome is Outcome.GONE
    assert volume.destroy_orphan(seen._replace(resource_id="../x")).error == "bad-id"


def test_depth_and_width_beyond_reason(place: Path, opening: str, sid: str, rid: str) -> None:
    volume = Volume.initialize(place / "v", "a", "d1")
    put(volume, sid, rid)
    deep = os.open(session_path(volume, sid), os.O_RDONLY)
    for _ in range(2500):  # the path is longer than PATH_MAX
        os.mkdir("d", dir_fd=deep)
        below = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(deep)
    assert outcome(volume, sid, rid) == (Outcome.DELETED, "")
    assert session_path(volume, sid).exists()
    page = volume.walk()
    assert (page.found, page.cursor, dict(page.strangers)) == ([], None, {"name": 1})
    subprocess.run(["rm", "-rf", session_path(volume, sid)], check=True)
    wide = [new_resource_id() for _ in range(20_000)]
    put(volume, sid, wide[0])
    for other in wide[1:]:
        os.close(os.open(session_path(volume, sid) / other, os.O_CREAT | os.O_WRONLY, 0o600))
    assert {r.outcome for r in volume.delete(sid, wide)} == {Outcome.DELETED}
    assert not session_path(volume, sid).exists()


def test_prune_removes_empty_folders_only(volume: Volume, opening: str, sid: str, rid: str) -> None:
    path = put(volume, sid, rid)
    assert volume.prune([sid, "..", "", new_session_id("00")]) == 0
    path.unlink()
    assert volume.prune([sid]) == 1
    assert not path.parent.exists()
