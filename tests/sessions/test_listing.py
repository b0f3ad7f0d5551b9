"""A session that lives throughout is listed at least once, whoever comes and goes between two pages."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sessionsweep.store import operations as op
from support.nodes import Node


def walk(node: Node, user: str | None, limit: int, between: Callable[[list[str]], None]) -> list[str]:
    """All ids, page by page; `between` gets those seen so far."""
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page, cursor = node.sessions.list(user, cursor, limit)
        seen += [session.id for session in page]
        if cursor is None:
            return seen
        between(seen)


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_of_a_user_none_is_missed_when_others_log_out(node: Node, limit: int) -> None:
    made = [node.sessions.create(user="ana")[0].id for _ in range(9)]
    left: set[str] = set()

    def log_out(seen: list[str]) -> None:
        left.add(seen[-1])
        node.sessions.end(seen[-1])

    seen = walk(node, "ana", limit, log_out)
    assert set(seen) >= set(made) - left
    assert left


def test_all_are_ended_though_the_one_that_is_spared_logs_out_meanwhile(node: Node) -> None:
    made = [node.sessions.create(user="ana")[0].id for _ in range(150)]
    store = node.store.execute
    spared = made[0]

    def execute(operation: op.Operation[object]) -> object:
        if isinstance(operation, op.BookPage) and operation.since:
            node.store.execute = store  # type: ignore[method-assign]
            node.sessions.end(spared)
        return store(operation)

    node.store.execute = execute  # type: ignore[method-assign]
    assert node.sessions.end_user("ana", except_id=spared) == 149
    assert node.sessions.list("ana")[0] == []


@pytest.mark.parametrize("partitions", [1, 3])
def test_none_is_missed_when_a_sweep_stops_in_the_middle_of_a_slot(
    make_node: Callable[..., Node], partitions: int
) -> None:
    node = make_node(partitions=partitions, idle_timeout=100, cleanup_interval=100, max_duration=0)
    node.store.freeze(1_800_000_000_000)
    made = [node.sessions.create() for _ in range(60)]
    node.store.advance(50_000)
    for _, token in made:
        node.sessions.open(token)
    node.store.advance(61_000)

    swept: list[op.Swept] = []

    def sweep(seen: list[str]) -> None:
        steps = [op.SweepStep(f"0{number}", node.core.width, 1000, 0, limit=9) for number in range(partitions)]
        swept.extend(node.store.execute(step) for step in (steps if not swept else ()))

    assert set(walk(node, None, 10, sweep)) == {session.id for session, _ in made}


def test_of_a_user_what_is_no_id_stops_nobody(node: Node) -> None:
    made = {node.sessions.create(user="ana")[0].id for _ in range(3)}
    for number, garbage in enumerate(("x", "a.b", "")):
        node.store.execute(op.Confirm("ana", garbage, number + 1))
    assert set(walk(node, "ana", 1, lambda seen: None)) == made


@pytest.mark.parametrize("user", [None, "ana"])
def test_what_leads_nowhere_is_refused(node: Node, user: str | None) -> None:
    node.sessions.create(user="ana")
    for limit in (0, -1):
        with pytest.raises(ValueError, match="limit"):
            node.sessions.list(user, limit=limit)
    wrong = ("x", "5", "1.x", "-1.", "²", "9" * 40 + ".")
    for cursor in (*wrong, *(() if user else ("0.0.0", "0.0.0.x", "0.0.0.0.", "0.0.².", "0.-1.0."))):
        with pytest.raises(ValueError, match="cursor"):
            node.sessions.list(user, cursor)
