"""Files being written: their limits, their lock, and everything that may be copied into them."""

from __future__ import annotations

import faulthandler
import fcntl
import io
import multiprocessing
import os
import shutil
import stat
import subprocess
import sys
import threading
import wave
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volume_trees import put, reason_of, session_path
from werkzeug.datastructures import FileStorage

from sessionsweep.errors import ResourceNotFoundError, ResourceTooLargeError, SessionSweepError, VolumeError
from sessionsweep.model.ids import new_resource_id, new_session_id
from sessionsweep.volumes.volume import NewFile, Outcome, Volume


def test_create_write_read_delete(place: Path, opening: str, sid: str, rid: str) -> None:
    volume = Volume.initialize(place / "v", "a", "d1")
    with volume.create(sid, rid) as file:
        assert file.path == volume.root / "files" / sid[2:4] / sid / rid
        assert file.path.stat().st_size == 0  # under its final name before the first byte
        assert file.write(b"hello world") == 11
        assert file.seek(6) == 6
        assert file.read() == b"world"
        assert file.truncate(5) == 5
        assert file.size == 5
    assert file.closed
    assert file.size == 5
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert {stat.S_IMODE(p.stat().st_mode) for p in (file.path.parent, file.path.parent.parent)} == {0o700}
    with volume.open_file(sid, rid) as reading:
        (removal,) = volume.delete(sid, [rid])
        assert reading.read() == b"hello"  # readers keep what they opened
    assert removal == (sid, rid, Outcome.DELETED, 5, "", "")
    assert not session_path(volume, sid).exists()
    with pytest.raises(ResourceNotFoundError):
        volume.open_file(sid, rid)


def test_a_link_swapped_in_between_look_and_open_is_not_followed(
    volume: Volume, tmp_path: Path, sid: str, rid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, moved = put(volume, sid, rid, b"ours"), tmp_path / "moved"
    real = os.open

    def swap(name: object, *args: object, **kwargs: object) -> int:
        if name == rid:
            path.rename(moved)  # the very inode that was looked at: comparing tells nothing
            path.symlink_to(moved)
            monkeypatch.setattr(os, "open", real)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", swap)
    with pytest.raises(VolumeError, match="swapped"):
        volume.open_file(sid, rid)


def test_umask_of_the_app_changes_no_mode_to_wider(volume: Volume, sid: str, rid: str) -> None:
    before = os.umask(0)
    try:
        path = put(volume, sid, rid)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_name_is_used_once(volume: Volume, sid: str, rid: str) -> None:
    path = put(volume, sid, rid, b"first")
    with pytest.raises(VolumeError, match="used once"):
        volume.create(sid, rid)
    assert path.read_bytes() == b"first"
    other = new_resource_id()
    (path.parent / other).symlink_to(path)
    with pytest.raises(VolumeError):
        volume.create(sid, other)
    assert path.read_bytes() == b"first"


@pytest.mark.parametrize(
    ("session_id", "resource_id"),
    [
        ("..", "0" * 16),
        ("00" + "0" * 18, "../" + "0" * 13),
        ("00" + "0" * 18, "0" * 16 + "\n"),
        ("", ""),
        ("00" + "0" * 18, "0" * 15 + "/"),
    ],
)
def test_no_path_from_what_is_no_id(volume: Volume, session_id: str, resource_id: str) -> None:
    with pytest.raises(VolumeError):
        volume.create(session_id, resource_id)
    with pytest.raises(VolumeError):
        volume.find(session_id, resource_id)
    with pytest.raises(VolumeError):
        volume.adopt(session_id, resource_id, volume.root)
    with pytest.raises(ResourceNotFoundError):
        volume.open_file(session_id, resource_id)
    with pytest.raises(ResourceNotFoundError):
        volume.promote(session_id, resource_id)
    (removal,) = volume.delete(session_id, [resource_id])
    assert (removal.outcome, removal.error) == (Outcome.FAILED, "bad-id")


def test_limit_refuses_before_the_write(volume: Volume, sid: str, rid: str) -> None:
    with volume.create(sid, rid, limit=10) as file:
        file.write(b"0123456789")
        with pytest.raises(ResourceTooLargeError):
            file.write(b"x")
        file.seek(0)
        file.write(b"again")  # overwriting isn't growing
        with pytest.raises(ResourceTooLargeError):
            file.truncate(11)
        file.seek(9)
        with pytest.raises(ResourceTooLargeError):
            file.write(b"xy")
    assert file.path.read_bytes() == b"again56789"


def test_limit_grows_by_its_owners_word(volume: Volume, sid: str, rid: str) -> None:
    asked: list[int] = []

    def grow(needed: int) -> int:
        asked.append(needed)
        return min(max(needed, 20), 30)

    with volume.create(sid, rid, limit=10, on_grow=grow) as file:
        file.write(b"x" * 10)
        assert asked == []
        file.write(b"x" * 5)
        assert (asked, file.limit) == ([15], 20)
        file.write(b"x" * 15)
        with pytest.raises(ResourceTooLargeError):
            file.write(b"x")
    assert asked == [15, 30, 31]
    assert file.size == 30


def test_limit_counts_what_another_program_wrote(volume: Volume, sid: str, rid: str) -> None:
    file = volume.create(sid, rid, limit=10)
    subprocess.run(
        [sys.executable, "-c", "import sys; open(sys.argv[1], 'wb').write(b'x' * 11)", file.path], check=True
    )
    with pytest.raises(ResourceTooLargeError):
        file.finish()
    assert not file.closed  # the owner discards it under its lock
    assert file.discard()
    assert not file.path.exists()
    with volume.create(sid, rid, limit=10) as file:
        subprocess.run(
            [sys.executable, "-c", "import sys; open(sys.argv[1], 'wb').write(b'x' * 9)", file.path], check=True
        )
    assert file.size == 9


def test_a_program_that_renames_its_result_over_the_path(volume: Volume, sid: str, rid: str) -> None:
    file = volume.create(sid, rid)
    file.write(b"draft")
    temporary = file.path.with_name("encoder.tmp")
    temporary.write_bytes(b"the real thing")
    temporary.chmod(0o644)
    temporary.rename(file.path)
    assert file.finish() == 14
    assert volume.delete(sid, [rid])[0].outcome is Outcome.BUSY, "the file that lies there now isn't locked"
    file.close()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert file.path.read_bytes() == b"the real thing"


@pytest.mark.parametrize("left", ["link", "hard link", "folder", "nothing"])
def test_finish_refuses_what_is_no_file(volume: Volume, tmp_path: Path, sid: str, rid: str, left: str) -> None:
    canary = tmp_path / "canary"
    canary.write_bytes(b"canary")
    canary.chmod(0o644)
    file = volume.create(sid, rid)
    file.path.unlink()
    if left == "link":
        file.path.symlink_to(canary)
    elif left == "hard link":
        os.link(canary, file.path)
    elif left == "folder":
        file.path.mkdir()
    with pytest.raises(SessionSweepError):
        file.finish()
    assert file.discard() is (left == "nothing")
    assert file.closed
    assert canary.read_bytes() == b"canary"
    assert canary.stat().st_mode & 0o777 == 0o644


def test_finish_spares_a_file_whose_second_name_was_taken_away_while_we_looked(
    volume: Volume, tmp_path: Path, sid: str, rid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary, away = tmp_path / "canary", tmp_path / "away"
    canary.write_bytes(b"canary")
    canary.chmod(0o644)
    file = volume.create(sid, rid)
    file.path.rename(away)
    os.link(canary, file.path)
    real = os.open

    def swap_after(name: object, *args: object, **kwargs: object) -> int:
        opened = real(name, *args, **kwargs)  # type: ignore[arg-type]
        if name == rid:
            away.rename(file.path)  # what was opened has one name now, and it isn't ours
            monkeypatch.setattr(os, "open", real)
        return opened

    monkeypatch.setattr(os, "open", swap_after)
    with pytest.raises(VolumeError, match="isn't the session's"):
        file.finish()
    assert canary.stat().st_mode & 0o777 == 0o644
    assert canary.read_bytes() == b"canary"
    assert file.finish() == 0, "its own name is back"
    file.close()


def test_discard_removes_file_and_empty_folder_and_can_be_repeated(volume: Volume, sid: str, rid: str) -> None:
    file = volume.create(sid, rid)
    file.write(b"x" * 100_000)
    assert file.discard()
    assert not file.path.parent.exists()
    assert not file.discard()
    file.close()
    kept = put(volume, sid, new_resource_id())
    file = volume.create(sid, rid)
    assert file.discard()
    assert kept.exists()


def test_finish_keeps_the_lock_until_close(volume: Volume, sid: str, rid: str) -> None:
    file = volume.create(sid, rid)
    file.write(b"12345")
    assert file.finish() == 5
    assert file.finish() == 5
    assert volume.delete(sid, [rid])[0].outcome is Outcome.BUSY
    file.close()
    assert volume.delete(sid, [rid])[0].outcome is Outcome.DELETED


class _Django:
    """The shape of django.core.files.uploadedfile.UploadedFile: chunks from the beginning, whatever was read."""

    def __init__(self, content: bytes) -> None:
        self.file = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self.file.read(size)

    def chunks(self) -> Iterator[bytes]:
        self.file.seek(0)
        while part := self.file.read(7):
            yield part


class _SaveOnly:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def save(self, target: io.RawIOBase) -> None:
        shutil.copyfileobj(io.BytesIO(self.content), target, 5)


def test_copy_from_everything(volume: Volume, tmp_path: Path, sid: str) -> None:
    content = bytes(range(256)) * 20
    path = tmp_path / "source"
    path.write_bytes(content)
    half_read = _Django(content)
    half_read.read(10)
    storage = FileStorage(io.BytesIO(content), "x.bin")
    with path.open("rb") as opened:
        sources = [path, str(path), opened, io.BytesIO(content), half_read, _SaveOnly(content), storage]
        for source in sources:
            with volume.create(sid, new_resource_id()) as file:
                assert file.copy_from(source) == len(content)
            assert file.path.read_bytes() == content
    put_by: list[int] = []
    with volume.create(sid, new_resource_id()) as file:

        def write(chunk: bytes) -> int:
            put_by.append(len(chunk))
            return file.write(chunk)

        assert file.copy_from(path, write) == sum(put_by) == len(content)
    with volume.create(sid, new_resource_id()) as file:
        FileStorage(io.BytesIO(content)).save(file)  # type: ignore[arg-type]
    assert file.path.read_bytes() == content


def test_copy_from_keeps_to_the_limit(volume: Volume, sid: str, rid: str) -> None:
    with volume.create(sid, rid, limit=10) as file:
        with pytest.raises(ResourceTooLargeError):
            file.copy_from(_Django(b"x" * 20))
        assert file.size == 7


async def _coroutine() -> bytes:
    return b""


class _Async:
    def read(self, size: int = -1) -> object:
        return _coroutine()


@pytest.mark.parametrize("source", [b"bytes", 7, None, io.StringIO("text"), _Async()])
def test_copy_from_names_what_it_can_not_take(volume: Volume, sid: str, rid: str, source: object) -> None:
    with volume.create(sid, rid) as file, pytest.raises(TypeError):
        file.copy_from(source)


def test_writers_of_the_standard_library(volume: Volume, sid: str, rid: str) -> None:
    with volume.create(sid, rid) as file, wave.open(file, "wb") as sound:  # type: ignore[call-overload]
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"\0\1" * 800)
    with volume.open_file(sid, rid) as reading, wave.open(reading) as sound:
        assert sound.getnframes() == 800
    with volume.create(sid, new_resource_id()) as file:
        text = io.TextIOWrapper(file, "utf-8")
        text.write("zwölf\n")
        text.detach()
    assert file.path.read_text("utf-8") == "zwölf\n"
    with volume.create(sid, new_resource_id()) as file, pytest.raises(TypeError, match="bytes"):
        file.write("text")


def test_open_file_opens_regular_files_only(volume: Volume, tmp_path: Path, opening: str, sid: str) -> None:
    put(volume, sid, new_resource_id())
    canary = tmp_path / "secret"
    canary.write_bytes(b"secret")
    folder = session_path(volume, sid)
    for number, make in enumerate((lambda p: p.symlink_to(canary), os.mkfifo, os.mkdir)):
        rid = f"{number:016d}"
        make(folder / rid)
        with pytest.raises(VolumeError, match="no regular file"):
            volume.open_file(sid, rid)
        with pytest.raises(VolumeError, match="no regular file"):
            volume.find(sid, rid)


def test_find_tells_absent_from_unknown(volume: Volume, sid: str, rid: str) -> None:
    assert volume.find(sid, rid) is None
    path = put(volume, sid, rid)
    found = volume.find(sid, rid)
    assert found is not None
    status = path.stat()
    assert found == (sid, rid, 7, status.st_mtime_ns, status.st_ino, status.st_dev)
    (volume.root / "files").rename(volume.root / "files.away")
    with pytest.raises(VolumeError):
        volume.find(sid, rid)


def test_what_is_being_written_is_told_apart(volume: Volume, sid: str, rid: str) -> None:
    file = volume.create(sid, rid)
    assert volume.find(sid, rid, unlocked=True) is None
    assert volume.find(sid, rid) is not None
    file.write(b"1234567")
    file.close()
    assert volume.find(sid, rid, unlocked=True) == volume.find(sid, rid)
    with volume.open_file(sid, rid) as reading:
        fcntl.flock(reading, fcntl.LOCK_SH)
        assert volume.find(sid, rid, unlocked=True) is not None, "who reads it holds nobody up"


def test_a_forked_child_neither_holds_nor_writes(volume: Volume, sid: str, rid: str) -> None:
    """A child that lives on must not keep the file busy, nor flush the parent's buffer a second time."""
    file = volume.create(sid, rid)
    file.write(b"once")
    lock = volume.exclusive("store")
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def child() -> None:
        faulthandler.dump_traceback_later(20)  # where it hangs, if it does
        theirs.send((file.closed, file.discard(), lock.held, reason_of(volume.exclusive, "store")))
        file.close()
        theirs.recv()  # lives until told

    process = context.Process(target=child)
    process.start()
    try:
        assert ours.poll(30)
        assert ours.recv() == (True, False, False, "in-use"), "not even for the owner that it has inherited"
        file.close()
        lock.release()
        Volume.open(volume.root, "a").exclusive("another store").release()
        assert file.path.read_bytes() == b"once"
        assert volume.delete(sid, [rid])[0].outcome is Outcome.DELETED
        ours.send("go")
        process.join(30)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()


def test_a_fork_amid_another_threads_close_leaves_a_child_that_goes_on(volume: Volume, sid: str, rid: str) -> None:
    """The child's copy of the file's lock is held by a thread that the child doesn't have."""
    file = volume.create(sid, rid)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=lambda: theirs.send(file.closed))
    with file._closing:  # as that thread has it
        process.start()
    try:
        assert ours.poll(30), "the child waits for ever"
        assert ours.recv() is True
        assert not file.closed, "the parent's is open"
    finally:
        process.kill()
        process.join()


def test_no_descriptor_is_left_open(volume: Volume, tmp_path: Path, opening: str, sid: str) -> None:
    def use() -> None:
        rid, other = new_resource_id(), new_resource_id()
        put(volume, sid, rid)
        volume.create(sid, other).discard()
        with pytest.raises(VolumeError):
            volume.create(sid, rid)
        volume.open_file(sid, rid).close()
        volume.find(sid, other)
        volume.walk()
        (tmp_path / "s").write_text("x")
        volume.adopt(sid, other, tmp_path / "s")
        volume.promote(sid, rid)
        with pytest.raises(ResourceNotFoundError):
            volume.promote(sid, new_resource_id())
        volume.promote(sid, other, tmp_path / "to")
        (tmp_path / "to").unlink()
        volume.delete(new_session_id("00"), [rid])
        volume.exclusive("store").release()
        volume.set_high_water(1, lower=True)
        with pytest.raises(VolumeError):
            volume.adopt(sid, new_resource_id(), volume.root / ".sessionsweep-volume")

    use()
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(5):
        use()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_creators_race_deleters_of_the_emptied_folder(volume: Volume, opening: str, sid: str) -> None:
    """The deleter removes the folder as often as it is empty; no creator may fail for that."""
    stop = threading.Event()
    failures: list[BaseException] = []
    done: deque[str] = deque()

    def create() -> None:
        try:
            for _ in range(150):
                rid = new_resource_id()
                put(volume, sid, rid)
                done.append(rid)
        except BaseException as error:
            failures.append(error)

    def delete() -> None:
        while not stop.is_set():
            if done:
                volume.delete(sid, [done.popleft()])
            volume.prune([sid])

    creators = [threading.Thread(target=create) for _ in range(3)]
    deleter = threading.Thread(target=delete)
    for thread in (deleter, *creators):
        thread.start()
    for thread in creators:
        thread.join(60)
    stop.set()
    deleter.join(60)
    assert failures == []


@pytest.mark.parametrize("call", ["open", "link"])
def test_a_folder_removed_under_its_creator_is_made_anew(
    volume: Volume, tmp_path: Path, sid: str, rid: str, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The very moment of the race above: the folder is open, and goes before the file is in it."""
    removed: list[int] = []
    real = getattr(os, call)

    def remove(name: object, *args: object, **kwargs: object) -> object:
        if rid in (name, *args) and len(removed) < 3:
            session_path(volume, sid).rmdir()
            removed.append(1)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(os, call, remove)
    if call == "open":
        volume.create(sid, rid).close()
    else:
        (tmp_path / "source").write_bytes(b"x")
        volume.adopt(sid, rid, tmp_path / "source")
    assert len(removed) == 3
    assert volume.find(sid, rid) is not None


def test_a_file_deleted_before_its_creator_locked_it_is_an_error(
    volume: Volume, sid: str, rid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session has ended meanwhile: bytes written to a file without a name would be lost in silence."""
    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        assert volume.delete(sid, [rid])[0].outcome is Outcome.DELETED
        real(descriptor, operation)

    put(volume, sid, new_resource_id())
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(VolumeError, match="deleted as soon as"):
        volume.create(sid, rid)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.binary(max_size=40)),
            st.tuples(st.just("seek"), st.integers(0, 120)),
            st.tuples(st.just("truncate"), st.integers(0, 120)),
            st.tuples(st.just("read"), st.integers(0, 60)),
        ),
        max_size=12,
    ),
    st.integers(0, 100),
)
def test_a_limited_file_is_bytes_in_memory_up_to_its_limit(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int | bytes]], limit: int
) -> None:
    volume = Volume.initialize(tmp_path_factory.mktemp("model") / "v", "a", "d1")
    model = io.BytesIO()
    with volume.create(new_session_id("00"), new_resource_id(), limit=limit) as file:
        for what, value in steps:
            position = model.tell()
            grown = position + len(value) if isinstance(value, bytes) else value
            needed = grown if what in ("write", "truncate") else 0
            if needed > limit:
                with pytest.raises(ResourceTooLargeError):
                    _do(file, what, value)
                continue
            if what == "truncate" and isinstance(value, int):  # BytesIO doesn't lengthen, files do
                content = model.getvalue()[:value].ljust(value, b"\0")
                model = io.BytesIO(content)
                model.seek(position)
                file.truncate(value)
                continue
            assert _do(file, what, value) == _do(model, what, value)
            assert file.tell() == model.tell()
    assert file.path.read_bytes() == model.getvalue()
    assert file.size <= limit


def _do(file: NewFile | io.BytesIO, what: str, value: int | bytes) -> object:
    return getattr(file, what)(value)
