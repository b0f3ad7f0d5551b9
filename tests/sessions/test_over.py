"""What a session that is over owned is its workers': no call of the application reaches it any more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sessionsweep import ResourceNotFoundError, Session
from support.nodes import Node


def log_out(node: Node, session: Session) -> None:
    session.end()


def be_idle(node: Node, session: Session) -> None:
    node.advance(10)


@pytest.mark.parametrize("end", [log_out, be_idle])
def test_nothing_of_it_is_listed_or_promoted(node: Node, tmp_path: Path, end: Callable[[Node, Session], None]) -> None:
    session, rid, path = node.session_with_file(user="ana")
    end(node, session)
    assert session.resources() == []
    assert node.sessions.connections("ana") == []
    for to in (None, tmp_path / "kept"):
        with pytest.raises(ResourceNotFoundError):
            session.promote(rid, to)
    assert path.exists()
    node.advance(2)
    node.sweep.run_once()
    assert node.reclaim.run_once().deleted == 1
    assert node.sessions.stats().resources["promoted"] == 0


def test_a_promotion_can_be_repeated_while_the_session_lives(node: Node, tmp_path: Path) -> None:
    """Its process died after it had moved the bytes, before the record was dropped."""
    session, rid, _ = node.session_with_file()
    target = tmp_path / "kept"
    node.core.mounts.here()[0].promote(session.id, rid, target)
    assert session.promote(rid, target) == target
    assert session.resources() == []
    assert node.sessions.stats().resources["promoted"] == 1
