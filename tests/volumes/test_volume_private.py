"""Who else may write a volume's folders could exchange the files in them: such a volume is refused, with the fix."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from volume_trees import DEPLOYMENT, put, reason_of

from sessionsweep.errors import VolumeUntrustedError
from sessionsweep.volumes import private
from sessionsweep.volumes.volume import Volume

OURS, STRANGERS = os.getegid(), 2000


def folder(mode: int, uid: int = 0, gid: int = STRANGERS) -> os.stat_result:
    """What stat(2) says of a folder."""
    return os.stat_result((0o040000 | mode, 1, 1, 2, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("found", "who"),
    [
        (folder(0o700), ""),
        (folder(0o755), ""),
        (folder(0o775), f"group {STRANGERS}"),
        (folder(0o2770), f"group {STRANGERS}"),
        (folder(0o775, gid=OURS), ""),
        (folder(0o775, uid=1000, gid=1000), ""),
        (folder(0o777, gid=OURS), "everybody"),
        (folder(0o702), "everybody"),
    ],
)
def test_who_else_may_write_a_folder(found: os.stat_result, who: str) -> None:
    assert private.other_writers(found) == who


def test_a_root_that_others_may_write_is_no_volume(tmp_path: Path) -> None:
    root = tmp_path / "v"
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(VolumeUntrustedError, match=f"chmod go-w {root}") as caught:
        Volume.initialize(root, "a", DEPLOYMENT)
    assert caught.value.reason == "not-private"
    assert list(root.iterdir()) == [], "nothing of ours was put there"
    assert reason_of(Volume.read_marker, root) == "not-private"


def test_a_volume_that_is_opened_to_others_is_worked_on_no_more(volume: Volume, sid: str, rid: str) -> None:
    path = put(volume, sid, rid)
    for opened in (volume.root, volume.root / "files"):
        opened.chmod(0o707)
        assert reason_of(volume.delete, sid, [rid]) == "not-private"
        assert reason_of(volume.open_file, sid, rid) == "not-private"
        assert path.exists()
        opened.chmod(0o700)
    volume.open_file(sid, rid).close()


def test_where_names_are_their_owners_own_others_may_make_theirs(volume: Volume, sid: str, rid: str) -> None:
    """A tmpfs that a container was given: mode 1777."""
    put(volume, sid, rid)
    volume.root.chmod(0o1777)
    volume.open_file(sid, rid).close()
    (volume.root / "files").chmod(0o1777)
    assert reason_of(volume.open_file, sid, rid) == "not-private", "there others could make a session's folder first"


@pytest.mark.parametrize(
    ("owner", "fine"),
    [("ours", True), ("root's", True), ("the root folder's", True), ("a stranger's", False)],
)
def test_whose_the_folder_of_files_may_be(owner: str, fine: bool) -> None:
    root = folder(0o755, uid=3000)
    uid = {"ours": os.geteuid(), "root's": 0, "the root folder's": 3000, "a stranger's": 3001}[owner]
    assert private.may_own(uid, root) is fine


def test_a_folder_of_files_that_somebody_else_put_there_is_refused(
    volume: Volume, sid: str, rid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He exchanged it while he could write the root: what is owed would be called gone, and his bytes be served."""
    put(volume, sid, rid)
    (volume.root / "files").rename(volume.root / "his")
    (volume.root / "files").mkdir()
    if os.geteuid() == 0:
        os.chown(volume.root / "files", 65534, 65534)
    else:  # nobody but root can give a folder away
        monkeypatch.setattr(private, "may_own", lambda uid, root: False)
    assert reason_of(volume.delete, sid, [rid]) == "not-private"
    assert reason_of(volume.create, sid, rid) == "not-private"
