"""A folder becomes a volume once, only when empty, and is known by its marker ever after."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from volume_trees import put, reason_of

from sessionsweep.errors import ConfigurationError, VolumeIOError, VolumeUntrustedError
from sessionsweep.model.ids import NAME, VOLUME_ID, new_volume_id
from sessionsweep.volumes.marker import Marker
from sessionsweep.volumes.volume import ExclusiveLock, Volume


def test_initialize_makes_folder_marker_and_private_modes(place: Path) -> None:
    made = Volume.initialize(place / "v", "a", "d1", ephemeral=True)
    opened = Volume.open(place / "v", "a")
    assert made.id == opened.id
    assert made.ephemeral
    assert not opened.ephemeral
    assert opened.deployment_id == "d1"
    assert Volume.read_marker(place / "v") == opened.marker
    assert sorted(os.listdir(place / "v")) == [".sessionsweep-volume", "files", "kept"]
    for name, mode in ((".", 0o700), ("files", 0o700), ("kept", 0o700), (".sessionsweep-volume", 0o600)):
        assert stat.S_IMODE((place / "v" / name).stat().st_mode) == mode
    content = json.loads((place / "v" / ".sessionsweep-volume").read_text())
    assert content["format"] == 1
    assert set(content) == {"format", "volume", "deployment", "name", "created_ms"}


def test_read_marker_without_one(tmp_path: Path) -> None:
    assert Volume.read_marker(tmp_path) is None
    assert Volume.read_marker(tmp_path / "absent") is None


def test_parent_must_exist(tmp_path: Path) -> None:
    with pytest.raises(VolumeIOError, match="ENOENT"):
        Volume.initialize(tmp_path / "no" / "v", "a", "d1")


def test_initialize_again_opens_what_is_there(volume: Volume) -> None:
    again = Volume.initialize(volume.root, "b", "other")
    assert again.id == volume.id
    assert again.deployment_id == "d1"  # never copied, never overwritten


@pytest.mark.parametrize("stranger", ["photo.jpg", ".hidden", "files", "kept", ".sessionsweep-volume.short"])
def test_only_an_empty_folder_becomes_a_volume(tmp_path: Path, stranger: str) -> None:
    root = tmp_path / "v"
    root.mkdir()
    if stranger in ("files", "kept"):
        (root / stranger).mkdir()
        (root / stranger / "x").write_text("theirs")
    else:
        (root / stranger).write_text("theirs")
    assert reason_of(Volume.initialize, root, "a", "d1") == "not-empty"
    assert os.listdir(root) == [stranger]


def test_a_link_named_files_is_no_beginning_of_ours(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "v", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    (root / "files").symlink_to(elsewhere)
    assert reason_of(Volume.initialize, root, "a", "d1") == "not-empty"


def test_lost_and_found_and_an_interrupted_beginning_count_as_empty(tmp_path: Path) -> None:
    root = tmp_path / "v"
    for name in ("lost+found", "files", "kept"):
        (root / name).mkdir(parents=True)
    (root / ".sessionsweep-volume.0123456789abcdef").write_text("{")
    assert Volume.initialize(root, "a", "d1").id


def test_killed_at_every_step_of_initialize_can_be_repeated(tmp_path: Path) -> None:
    """A process that dies at each call of the system in turn leaves what the next one completes."""
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from sessionsweep.volumes.volume import Volume\n"
        "left = int(sys.argv[2])\n"
        "def die(event, args):\n"
        "    global left\n"
        "    if event in ('os.mkdir', 'os.link', 'os.remove', 'open'):\n"
        "        left -= 1\n"
        "        if left < 0: os._exit(9)\n"
        "sys.addaudithook(die)\n"
        "Volume.initialize(Path(sys.argv[1]), 'a', 'd1')\n"
    )
    for step in range(40):
        root = tmp_path / f"v{step}"
        root.mkdir()
        done = subprocess.run([sys.executable, "-c", code, str(root), str(step)], timeout=60, check=False)
        assert Volume.initialize(root, "a", "d1").deployment_id == "d1"
        if done.returncode == 0:
            assert step > 5, "the process was never killed"
            return
        assert done.returncode == 9
    pytest.fail("initialize has more than 40 steps")


def test_racing_initializers_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for number in range(60):
            root, barrier = tmp_path / f"v{number}", threading.Barrier(8)

            def begin(worker: int, root: Path = root, barrier: threading.Barrier = barrier) -> Volume:
                barrier.wait(10)
                return Volume.initialize(root, f"n{worker}", f"d{worker}")

            volumes = list(pool.map(begin, range(8)))
            assert len({volume.marker for volume in volumes}) == 1
            assert sorted(os.listdir(root)) == [".sessionsweep-volume", "files", "kept"]


@pytest.mark.parametrize("name", ["", "../x", "a b", "-", "x" * 64, "a\n"])
def test_names_are_checked(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError):
        Volume.initialize(tmp_path / "v", name, "d1")
    with pytest.raises(ConfigurationError):
        Volume.initialize(tmp_path / "v", "a", name)


def test_open_without_marker_or_root(tmp_path: Path) -> None:
    assert reason_of(Volume.open, tmp_path, "a") == "marker-missing"
    assert reason_of(Volume.open, tmp_path / "absent", "a") == "root-missing"
    (tmp_path / "file").write_text("")
    assert reason_of(Volume.open, tmp_path / "file", "a") == "root-missing"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[" * 4000, b"[]", b"null", b"\xff\xfe", b'{"format": 1}', b"x" * 5000, b'{"format": "1"}']
    + [
        json.dumps({"format": 1, "volume": v, "deployment": d, "name": n, "created_ms": c}).encode()
        for v, d, n, c in (
            ("../../../../etc", "d", "a", 1),
            ("0123456789abcdef", "", "a", 1),
            ("0123456789abcdef", "d", "a/b", 1),
            ("0123456789abcdef", "d", "a", "now"),
        )
    ],
)
def test_damaged_marker_is_never_trusted(volume: Volume, content: bytes) -> None:
    (volume.root / ".sessionsweep-volume").write_bytes(content)
    assert reason_of(Volume.read_marker, volume.root) == "marker-unreadable"
    assert reason_of(Volume.open, volume.root, "a") == "marker-unreadable"
    assert reason_of(Volume.initialize, volume.root, "a", "d1") == "marker-unreadable"


def test_newer_marker_says_so(volume: Volume) -> None:
    (volume.root / ".sessionsweep-volume").write_text('{"format": 2}')
    assert reason_of(Volume.open, volume.root, "a") == "marker-newer"


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "folder"])
def test_marker_that_is_no_regular_file(volume: Volume, tmp_path: Path, kind: str) -> None:
    marker = volume.root / ".sessionsweep-volume"
    marker.rename(tmp_path / "moved")
    if kind == "link":
        marker.symlink_to(tmp_path / "moved")
    elif kind == "dangling":
        marker.symlink_to(tmp_path / "nothing")
    elif kind == "fifo":
        os.mkfifo(marker)
    else:
        marker.mkdir()
    assert reason_of(Volume.open, volume.root, "a") == "marker-unreadable"
    assert reason_of(volume.verify) == "marker-unreadable"


def test_verify_sees_a_swap_an_unmount_and_a_lost_files_folder(
    volume: Volume, tmp_path: Path, sid: str, rid: str
) -> None:
    """Every operation refuses, not only verify: there is no moment between the check and the work."""
    put(volume, sid, rid)
    other = Volume.initialize(tmp_path / "other", "a", "d1")
    put(other, sid, rid)
    home = volume.root

    def refused() -> set[str]:
        return {
            reason_of(volume.verify),
            reason_of(volume.delete, sid, [rid]),
            reason_of(volume.create, sid, "0" * 16),
            reason_of(volume.open_file, sid, rid),
            reason_of(volume.find, sid, rid),
            reason_of(volume.promote, sid, rid),
            reason_of(volume.adopt, sid, "1" * 16, tmp_path / "source"),
            reason_of(volume.walk),
            reason_of(volume.prune, [sid]),
            reason_of(volume.high_water),
            reason_of(volume.set_high_water, 1),
            reason_of(volume.exclusive, "store"),
            reason_of(volume.restamp, "d9"),
        }

    volume.verify()
    home.rename(tmp_path / "away")
    assert refused() == {"root-missing"}
    home.mkdir()  # an empty mount point
    assert refused() == {"marker-missing"}
    home.rmdir()
    other.root.rename(home)
    assert refused() == {"marker-changed"}
    assert (home / "files" / sid[2:4] / sid / rid).exists()
    home.rename(tmp_path / "other")
    home.symlink_to(tmp_path / "other")
    assert refused() == {"marker-changed"}
    home.unlink()
    (tmp_path / "away").rename(home)
    volume.verify()
    (home / "files").rename(home / "files.away")
    assert refused() == {"files-missing"}
    (home / "files").symlink_to(home / "files.away")
    assert refused() == {"files-missing"}
    assert (home / "files.away" / sid[2:4] / sid / rid).exists()


def test_restamp_is_seen_by_others_and_keeps_the_volume(volume: Volume) -> None:
    other = Volume.open(volume.root, "a")
    volume.restamp("d2")
    volume.verify()
    assert (volume.id, volume.deployment_id) == (other.id, "d2")
    assert reason_of(other.verify) == "marker-changed"
    assert Volume.open(volume.root, "a").marker == volume.marker
    assert sorted(os.listdir(volume.root)) == [".sessionsweep-volume", "files", "kept"]
    with pytest.raises(ConfigurationError):
        volume.restamp("no/slash")


def test_exclusive_is_refused_to_another_process_and_ends_with_its_holder(volume: Volume) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from sessionsweep.volumes.volume import Volume\n"
        "lock = Volume.open(Path(sys.argv[1]), 'a').exclusive('store')\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(volume.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"held\n"
        assert reason_of(volume.exclusive, "store") == "in-use"
        assert reason_of(volume.restamp, "d2") == "in-use"
    finally:
        owner.kill()
        owner.communicate(timeout=30)
    assert volume.exclusive("store").held


def test_exclusive_is_shared_within_a_process_by_those_of_one_owner_only(volume: Volume) -> None:
    first = volume.exclusive("store")
    second = Volume.open(volume.root, "a").exclusive("store")
    with pytest.raises(VolumeUntrustedError, match=r"other sessions of this process.*Make one Sessions") as refused:
        volume.exclusive("another store")
    assert refused.value.reason == "in-use"
    assert reason_of(volume.restamp, "d2") == "in-use"
    first.release()
    first.release()
    assert (first.held, second.held) == (False, True)
    assert reason_of(volume.exclusive, "another store") == "in-use", "one of the two still uses it"
    second.release()
    volume.exclusive("another store").release()
    volume.restamp("d2")


def test_exclusive_locks_the_marker_that_is_there_now(volume: Volume) -> None:
    """A marker that was replaced is another file: a lock on the old one proves nothing."""
    old = volume.exclusive("store")
    marker = volume.root / ".sessionsweep-volume"
    copy = volume.root / "copy"
    copy.write_bytes(marker.read_bytes())
    copy.rename(marker)
    new = volume.exclusive("another store")
    old.release()
    assert reason_of(volume.exclusive, "store") == "in-use"
    new.release()
    volume.exclusive("store").release()


def test_threads_share_one_lock(volume: Volume) -> None:
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            locks = list(pool.map(lambda _: volume.exclusive("store"), range(8)))
            assert all(lock.held for lock in locks)
            list(pool.map(ExclusiveLock.release, locks))
    volume.exclusive("another store").release()


@given(
    st.integers(0, 2**62),
    st.from_regex(NAME, fullmatch=True),
    st.from_regex(NAME, fullmatch=True),
    st.from_regex(VOLUME_ID, fullmatch=True),
)
def test_marker_survives_its_file(created: int, name: str, deployment: str, volume_id: str) -> None:
    marker = Marker(volume_id, deployment, name, created)
    assert Marker.decode(marker.encode(), "x") == marker


@given(
    st.binary(max_size=300)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_give_a_marker_or_a_typed_error(raw: bytes) -> None:
    try:
        marker = Marker.decode(raw, "x")
    except VolumeUntrustedError as error:
        reason = error.reason
    else:
        assert Marker.decode(marker.encode(), "x") == marker
        reason = ""
    assert reason in ("", "marker-unreadable", "marker-newer")


def test_fresh_volume_ids_match_their_pattern() -> None:
    assert VOLUME_ID.match(new_volume_id())
