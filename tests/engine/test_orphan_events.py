"""What the orphan pass tells: one event for each session's folder, and no flood of them."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from sessionsweep.engine import orphans
from sessionsweep.model.events import DEPLOYMENT, EventName
from sessionsweep.model.ids import new_resource_id, new_session_id
from sessionsweep.store import operations as op
from support.nodes import Node


def told(node: Node) -> list[tuple[object, ...]]:
    page = node.store.execute(op.Events(DEPLOYMENT))
    return [(e.session_id, *e.fields.values()) for e in page.events if e.name is EventName.ORPHAN_FOUND]


def strangers(node: Node, sessions: int, files: int) -> list[str]:
    """Files that nobody owns, on the node's first volume."""
    volume = node.core.mounts.here()[0]
    ids = [new_session_id("00") for _ in range(sessions)]
    for sid in ids:
        folder = volume.root / "files" / sid[2:4] / sid
        os.makedirs(folder)
        for _ in range(files):
            (folder / new_resource_id()).write_bytes(b"x")
    return ids


def walk(node: Node) -> None:
    """Sighted, and sighted again a grace later."""
    node.orphans.run_once()
    node.advance(2)
    node.orphans.run_once()


def test_what_is_destroyed_is_told_by_session(make_node: Callable[..., Node]) -> None:
    node = make_node()
    node.mount()
    ids = strangers(node, 2, 3)
    walk(node)
    volume = node.core.mounts.here()[0].id
    assert sorted(told(node)) == sorted((sid, volume, 3, 3) for sid in ids)


def test_what_is_only_observed_is_told_as_found(make_node: Callable[..., Node]) -> None:
    node = make_node(mode="observe")
    node.mount()
    (sid,) = strangers(node, 1, 2)
    walk(node)
    assert told(node)[0][0] == sid
    assert told(node)[0][2:] == (2, 0)


def test_many_orphans_push_nothing_else_out(make_node: Callable[..., Node], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "TOLD", 3)
    node = make_node()
    node.mount()
    strangers(node, 10, 1)
    walk(node)
    found = told(node)
    assert len(found) == 4
    assert found[-1][0] is None
    assert sum(row[2] for row in found) == sum(row[3] for row in found) == 10  # type: ignore[misc]
