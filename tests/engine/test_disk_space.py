"""What a heartbeat tells of disks: how full each is, of the right one, and nothing that could stop it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from sessionsweep.operator import nodes
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.volumes.space import Space
from support.nodes import Node


def told(node: Node) -> dict[str, Space]:
    (seen,) = run(nodes.listed(node.core), node.store)
    assert seen.readable
    return dict(seen.space)


def test_a_heartbeat_tells_how_full_each_volume_is(node: Node) -> None:
    node.upkeep.run_once()
    (volume,) = node.core.mounts.here()
    disk = os.statvfs(volume.root)
    space = told(node)[volume.id]
    assert abs(space.used + space.free - (disk.f_blocks - disk.f_bfree + disk.f_bavail) * disk.f_frsize) < 2**30
    assert space.free > 0
    node.upkeep.beat_heart(["q"])  # between two looks the last one's stands
    assert told(node) == {volume.id: space}


def test_an_exchanged_volume_is_not_told_of_as_if_it_were_there(node: Node) -> None:
    node.upkeep.run_once()
    (volume,) = node.core.mounts.here()
    (volume.root / ".sessionsweep-volume").unlink()  # as where its disk was unmounted
    node.upkeep.run_once()
    assert told(node) == {}


def test_a_heartbeat_touches_no_disk(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.upkeep.run_once()

    def hangs(path: object) -> None:
        raise AssertionError("a disk that hangs would silence the node")

    monkeypatch.setattr(os, "statvfs", hangs)
    node.upkeep.beat_heart()
    assert len(told(node)) == 1


@pytest.mark.parametrize("space", [None, 5, [], {"v": 5}, {"v": {"used": -1, "free": 2}}, {"v": {"used": "x"}}])
def test_what_else_stands_there_is_no_space(make_node: Callable[..., Node], space: Any) -> None:
    node = make_node("a")
    now = node.store.execute(op.Facts()).now
    row = {"at": now, "volumes": {"v": "a"}, "queues": [], "space": space}
    node.store.execute(op.TablePut("n", "a", json.dumps(row)))
    assert told(node) == {}
