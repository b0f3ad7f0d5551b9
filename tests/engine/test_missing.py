"""Records without bytes: more than may wait for their second look at once are closed all the same, pass by pass."""

from __future__ import annotations

import pytest

from support.nodes import Node


def test_what_was_closed_makes_room_for_others(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessionsweep.engine.missing.CAP", 1)  # and one more
    for _ in range(5):
        node.session_with_file()[2].unlink()
    closed = []
    for _ in range(6):
        closed.append(node.orphans.run_once().missing)
        node.advance(2)
    assert sum(closed) == 5, closed
    assert max(closed) == 2
    assert node.sessions.stats().imbalance == 0
