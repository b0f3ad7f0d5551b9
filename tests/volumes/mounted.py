"""What happens to a volume when file systems come and go: scenarios for a private mount namespace.

Run by test_volume_mounts.py as `unshare -m python mounted.py SCENARIO FOLDER OPENING`; nothing it mounts is seen
outside, and all of it goes with the process.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from volume_trees import put, reason_of, session_path

from sessionsweep.errors import VolumeError, VolumeIOError
from sessionsweep.model.ids import new_resource_id, new_session_id
from sessionsweep.volumes import descriptors
from sessionsweep.volumes.volume import Outcome, Volume

SID, RID = new_session_id("00"), new_resource_id(".wav")


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


def umount(path: Path) -> None:
    subprocess.run(["umount", path], check=True)


def tmpfs(path: Path, options: str = "size=8m") -> Path:
    path.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", options, "none", path)
    return path


def outcome(volume: Volume) -> tuple[Outcome, str]:
    (removal,) = volume.delete(SID, [RID])
    return removal.outcome, removal.error


def unmounted(place: Path) -> None:
    """An unmounted disk leaves its mount point: nothing there is gone, and nothing is made there."""
    root = tmpfs(place / "v")
    volume = Volume.initialize(root, "a", "d1")
    put(volume, SID, RID)
    mount("--bind", root, tmpfs(place / "elsewhere"))  # keeps the disk alive
    umount(root)
    for call in (volume.verify, volume.walk, volume.high_water, lambda: volume.delete(SID, [RID])):
        assert reason_of(call) == "marker-missing"
    assert reason_of(volume.create, SID, new_resource_id()) == "marker-missing"
    assert reason_of(Volume.open, root, "a") == "marker-missing"
    assert os.listdir(root) == []
    mount("--bind", place / "elsewhere", root)
    volume.verify()
    assert outcome(volume) == (Outcome.DELETED, "")


def swapped(place: Path) -> None:
    """Two disks change places: neither is touched under the other's name."""
    one, two = (Volume.initialize(tmpfs(place / name), name, "d1") for name in ("one", "two"))
    for volume in (one, two):
        put(volume, SID, RID, volume.name.encode())
    for volume in (one, two):
        tmpfs(place / f"{volume.name}.away")
        mount("--bind", volume.root, place / f"{volume.name}.away")
    mount("--bind", place / "two.away", one.root)
    mount("--bind", place / "one.away", two.root)
    for volume in (one, two):
        assert reason_of(volume.delete, SID, [RID]) == "marker-changed"
    assert Volume.open(one.root, "one").id == two.id  # known by its marker, whatever its path
    assert (session_path(one, SID) / RID).read_bytes() == b"two"


def foreign_folder(place: Path) -> None:
    """Another file system mounted over a folder of ours is neither entered nor emptied."""
    volume = Volume.initialize(place / "v", "a", "d1")
    for level in ("session", "fan-out"):
        put(volume, SID, RID)
        over = session_path(volume, SID) if level == "session" else session_path(volume, SID).parent
        tmpfs(over)
        canary = session_path(volume, SID) / RID
        canary.parent.mkdir(exist_ok=True)
        canary.write_bytes(b"canary")
        assert outcome(volume) == (Outcome.FAILED, "other-device"), level
        page = volume.walk()
        assert (page.found, dict(page.strangers)) == ([], {"other-device": 1})
        with pytest.raises(VolumeError):
            volume.open_file(SID, RID)
        with pytest.raises(VolumeError):
            volume.create(SID, new_resource_id())
        with pytest.raises(VolumeError):
            volume.promote(SID, RID)
        assert canary.read_bytes() == b"canary"
        umount(over)
        assert outcome(volume) == (Outcome.DELETED, "")
    tmpfs(volume.root / "files")
    assert reason_of(volume.verify) == "files-missing"
    umount(volume.root / "files")
    tmpfs(volume.root / "kept")
    put(volume, SID, RID)
    with pytest.raises(VolumeError):
        volume.promote(SID, RID)


def same_device(place: Path) -> None:
    """A bind mount of the same file system has the same device number; only the kernel can tell it."""
    volume = Volume.initialize(place / "v", "a", "d1")
    put(volume, SID, RID)
    theirs = place / "theirs" / SID
    theirs.mkdir(parents=True)
    (theirs / RID).write_bytes(b"canary")
    for over, source in ((session_path(volume, SID), theirs), (session_path(volume, SID).parent, theirs.parent)):
        mount("--bind", source, over)
        assert os.stat(over).st_dev == os.stat(volume.root).st_dev
        assert outcome(volume) == (Outcome.FAILED, "other-device")
        assert dict(volume.walk().strangers) == {"other-device": 1}
        umount(over)
    assert (theirs / RID).read_bytes() == b"canary"
    assert outcome(volume) == (Outcome.DELETED, "")


def file_over_ours(place: Path) -> None:
    """A file mounted over our name: its bytes stay, and our name, busy, is tried again."""
    volume = Volume.initialize(place / "v", "a", "d1")
    path = put(volume, SID, RID)
    other = tmpfs(place / "other")
    for canary, expected in ((place / "canary", "EBUSY"), (other / "canary", "other-device")):
        canary.write_bytes(b"canary")
        mount("--bind", canary, path)
        assert outcome(volume) == (Outcome.FAILED, expected)
        assert canary.read_bytes() == b"canary"
        umount(path)
    assert outcome(volume) == (Outcome.DELETED, "")


def read_only(place: Path) -> None:
    """On a read-only mount nothing is gone and nothing counts as deleted."""
    root = tmpfs(place / "v")
    volume = Volume.initialize(root, "a", "d1")
    path = put(volume, SID, RID)
    mount("-o", "remount,ro", root)
    assert outcome(volume) == (Outcome.FAILED, "EROFS")
    assert path.exists()
    for call in (
        lambda: volume.create(SID, new_resource_id()),
        lambda: volume.promote(SID, RID),
        lambda: volume.set_high_water(1),
        lambda: volume.restamp("d2"),
    ):
        with pytest.raises(VolumeIOError) as caught:
            call()
        assert caught.value.errno == errno.EROFS
    assert volume.deployment_id == "d1"
    mount("-o", "remount,rw", root)
    assert outcome(volume) == (Outcome.DELETED, "")


def full(place: Path) -> None:
    """A full disk fails the writer with its errno, and is cleaned all the same."""
    root = tmpfs(place / "v", "size=256k")
    volume = Volume.initialize(root, "a", "d1")
    put(volume, SID, RID, b"x" * 100_000)
    volume.set_high_water(1)
    file = volume.create(SID, new_resource_id())
    with pytest.raises(VolumeIOError) as caught:
        file.copy_from(BytesIO(b"x" * 1_000_000))
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(VolumeIOError):
        volume.set_high_water(2)
    assert volume.high_water() == 1
    source = place / "source"
    source.write_bytes(b"x" * 300_000)
    adopted = new_resource_id()
    with pytest.raises(VolumeIOError):
        volume.adopt(SID, adopted, source)
    assert source.stat().st_size == 300_000
    assert volume.find(SID, adopted) is None
    assert file.discard()
    assert outcome(volume) == (Outcome.DELETED, "")
    assert not session_path(volume, SID).exists()


def empty_mount_point(place: Path) -> None:
    """An empty mount point can't be told from an empty folder here: it is the store's part to know the volume."""
    Volume.initialize(tmpfs(place / "v"), "a", "d1")
    umount(place / "v")
    assert Volume.read_marker(place / "v") is None


SCENARIOS = {
    call.__name__: call
    for call in (
        unmounted,
        swapped,
        foreign_folder,
        same_device,
        file_over_ours,
        read_only,
        full,
        empty_mount_point,
    )
}

if __name__ == "__main__":
    scenario, folder, opening = sys.argv[1:]
    if opening == "portable":
        descriptors._open_below = descriptors._walk_below
    SCENARIOS[scenario](Path(folder))
    print("done", scenario)
