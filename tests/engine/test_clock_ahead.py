"""The server's clock is ahead for a moment: what that left is cleaned up by the passes alone, and not a month later."""

from __future__ import annotations

from collections.abc import Callable

from sessionsweep.store import operations as op
from support.nodes import Node

MONTH = 30 * 86_400_000  # ms


def test_what_a_log_out_left_while_the_clock_was_ahead_goes(make_node: Callable[..., Node]) -> None:
    node = make_node(idle_timeout="90d", max_duration="180d")
    session, _, path = node.session_with_file()
    node.store.freeze(node.store.execute(op.Facts()).now)
    node.store.advance(MONTH)
    session.end()
    node.store.advance(-MONTH - 1)
    assert node.reclaim.run_once().deleted == 0, "it is due in a month"
    cycle(node)
    node.advance(1.1)
    assert node.reclaim.run_once().deleted == 1
    assert not path.exists()
    assert cycle(node) == 0


def cycle(node: Node) -> int:
    """Upkeep until it has looked at every key once; how many sessions it mended."""
    mended = 0
    while True:
        mended += node.upkeep.run_once().mended
        cursors = node.store.execute(op.Table("mend"))
        if all(cursor == "0" for cursor in cursors.values()):
            return mended
