"""Nothing stays of a web process that is gone: neither its streams nor its names in the store."""

from __future__ import annotations

from collections.abc import Callable

from sessionsweep.engine.silence import CONFIRM
from sessionsweep.model.ids import new_resource_id
from sessionsweep.store import operations as op
from support.nodes import Node


def locations(node: Node) -> list[str]:
    """What each look of each keeper goes through."""
    return [depth.location for depth in node.store.execute(op.Queues("00"))]


def stream(node: Node, session_id: str) -> str:
    """An open stream in the process `web`; its id."""
    stream = new_resource_id()
    opened = op.Register(session_id, stream, "s", "p.web", 0, live=True)
    assert node.store.execute(opened).status == "ok"
    return stream


def close_the_dead(node: Node) -> int:
    """Two looks, as far apart as it takes; how many streams were closed."""
    closed = 0
    for _ in range(2):
        node.advance(700 + CONFIRM)
        closed += node.upkeep.run_once().streams
    return closed


def test_a_web_process_that_is_gone_is_looked_at_no_more(make_node: Callable[..., Node]) -> None:
    node = make_node(idle_timeout=100_000, max_duration=0)
    session, _ = node.sessions.create()
    node.store.execute(op.TablePut("p", "web", str(node.store.execute(op.Facts()).now)))
    stream(node, session.id)
    assert locations(node) == ["p.web"]
    assert close_the_dead(node) == 1
    assert locations(node) == []
    node.upkeep.run_once()
    assert node.store.execute(op.Table("p")) == {}
    stream(node, session.id)  # it was only paused
    assert locations(node) == ["p.web"]
    assert close_the_dead(node) == 1, "and is found again when it goes at last"
