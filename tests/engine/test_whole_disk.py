"""A fault of the whole disk uses up no tries: what is owed there goes when it is over, without an operator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.disks import mount, private_mounts, umount
from sessionsweep.volumes.deletion import OF_THE_DISK
from support.nodes import Node


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system, seen by this process alone."""
    assert private_mounts() == ""
    place = tmp_path / "disk"
    place.mkdir()
    mount("-t", "tmpfs", "-o", "size=8m,mode=700", "none", place)
    yield place
    umount(place)


def test_a_disk_that_was_read_only_for_long_leaves_no_dead_letters(make_node: Callable[..., Node], disk: Path) -> None:
    node = make_node(volumes=f"a={disk}", reclaim_tries=2)
    paths = []
    for _ in range(3):
        session, _, path = node.session_with_file()
        paths.append(path)
        session.end()
    mount("-o", "remount,ro", disk)
    assert "EROFS" in OF_THE_DISK
    for _ in range(6):
        node.advance(node.settings.cleanup_interval)
        held = node.reclaim.run_once()
        assert (held.deleted, held.dead, len(held.held)) == (0, 0, 1)
    assert node.sessions.stats().resources["owed"] == 3
    mount("-o", "remount,rw", disk)
    node.advance(node.settings.cleanup_interval)
    assert node.reclaim.run_once().deleted == 3
    assert not any(path.exists() for path in paths)
