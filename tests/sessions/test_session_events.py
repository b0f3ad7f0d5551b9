"""What is told of limits that lie outside a session's own slot, and that a refusal is told once, when it is one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sessionsweep import LimitReachedError
from sessionsweep.model.events import DEPLOYMENT
from sessionsweep.store import operations as op
from support.nodes import Node


def limits(node: Node, partition: str = DEPLOYMENT) -> list[tuple[object, ...]]:
    """Limits that were reached: (setting, its value, user), and the session where there is one."""
    page = node.store.execute(op.Events(partition))
    return [(*e.fields.values(), e.session_id) for e in page.events if e.name == "limit_reached"]


def refused(call: Callable[[], object]) -> None:
    with pytest.raises(LimitReachedError):
        call()


def test_a_users_limit_is_told_for_each_user_once_a_second(make_node: Callable[..., Node]) -> None:
    node = make_node(max_sessions_per_user=1)
    for user in ("ana", "bob"):
        node.sessions.create(user=user)
        for _ in range(5):
            refused(lambda user=user: node.sessions.create(user=user))
    stranger, _ = node.sessions.create()
    node.advance(1)
    refused(lambda: stranger.log_in("ana"))
    assert limits(node) == [
        ("MAX_SESSIONS_PER_USER", 1, "ana", None),
        ("MAX_SESSIONS_PER_USER", 1, "bob", None),
        ("MAX_SESSIONS_PER_USER", 1, "ana", stranger.id),
    ]


def test_the_limit_of_all_sessions_is_told_and_making_room_is_no_refusal(make_node: Callable[..., Node]) -> None:
    node = make_node(max_sessions=2, max_sessions_per_user=1, on_user_limit="end-oldest")
    node.sessions.create(user="ana")
    node.sessions.create(user="ana")  # ends the other
    node.sessions.create()
    assert limits(node) == []
    refused(node.sessions.create)
    assert limits(node) == [("MAX_SESSIONS", 2, "", None)]


def test_a_users_quota_is_told_when_nothing_less_would_do(make_node: Callable[..., Node]) -> None:
    node = make_node(max_resources_per_user=1, max_bytes_per_user=3_000_000, max_bytes_per_session=100_000_000)
    session, _ = node.sessions.create(user="ana")
    with session.new_file("x") as f:
        f.write(b"x" * 2_000_000)  # it grows in steps, the first ones too generous
    assert limits(node) == []
    refused(lambda: session.new_file("x").__enter__())
    assert limits(node) == [("MAX_RESOURCES_PER_USER", 1, "ana", session.id)]


def test_a_sessions_own_limit_is_told_in_its_partition(make_node: Callable[..., Node]) -> None:
    node = make_node(max_bytes_per_session=1000)
    session, _ = node.sessions.create()
    with pytest.raises(LimitReachedError), session.new_file("x") as f:
        f.write(b"x" * 5000)
    assert limits(node) == []
    assert limits(node, session.id[:2]) == [("MAX_BYTES_PER_SESSION", 1000, "", session.id)]


def test_asking_for_more_than_is_needed_is_no_refusal(make_node: Callable[..., Node]) -> None:
    node = make_node(max_bytes_per_session=3_000_000)
    session, _ = node.sessions.create()
    with session.new_file("x") as one, session.new_file("x") as other:
        one.write(b"x" * 1_500_000)
        other.write(b"x" * 1_000_000)
        other.write(b"x" * 100_000)  # twice as much is asked for first, which the other file leaves no room for
    assert limits(node, session.id[:2]) == []
