"""A user's sessions and shares while others act between any two steps: limits hold, and nothing stays taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sessionsweep import Client, LimitReachedError, Session, SessionEndedError
from sessionsweep.model.ids import partition_of
from sessionsweep.sessions import files, lifecycle
from sessionsweep.store import operations as op
from sessionsweep.store.flow import Flow, Work, run
from sessionsweep.store.outbox import drain
from support.books import members
from support.nodes import Node


class Paused:
    """A flow that stops before it sends an operation of one kind: there somebody else acts, or its process dies."""

    def __init__(self, node: Node, flow: Flow[Any], before: type[op.Operation[Any]], after: int = 0) -> None:
        """`after`: how many of that kind it sends first."""
        self._node, self._flow = node, flow
        step = next(flow)
        while not isinstance(step, before) or after > 0:
            after -= isinstance(step, before)
            step = flow.send(self._carry_out(step))
        self.step = step

    def go_on(self) -> Any:
        """The rest of the flow; its result."""
        step = self.step
        try:
            while True:
                step = self._flow.send(self._carry_out(step))
        except StopIteration as done:
            return done.value

    def die(self) -> None:
        """What stood before the next step stays as it is."""
        self._flow.close()

    def _carry_out(self, step: Any) -> Any:
        return step.do() if isinstance(step, Work) else self._node.store.execute(step)


def ids(node: Node, user: str) -> list[str]:
    """The sessions that are listed as a user's."""
    return [session.id for session in node.sessions.list(user)[0]]


# --- the book of sessions -------------------------------------------------------------------------------------


def test_ending_a_users_sessions_leaves_the_place_of_one_that_is_logging_in(make_node: Callable[..., Node]) -> None:
    node = make_node(max_sessions_per_user=1)
    session, _ = node.sessions.create()
    log_in = Paused(node, lifecycle.rotate(node.core, session._record, "ana"), op.RotateSession)
    assert node.sessions.end_user("ana") == 0
    with pytest.raises(LimitReachedError, match="MAX_SESSIONS_PER_USER"):
        node.sessions.create(user="ana")
    log_in.go_on()
    assert ids(node, "ana") == [session.id]
    assert node.sessions.end_user("ana") == 1


@pytest.mark.parametrize("acts", ["reserves", "creates"])
def test_whoever_looks_for_a_free_place_leaves_one_that_is_being_taken(
    make_node: Callable[..., Node], acts: str
) -> None:
    """Its session wasn't there yet when it was looked for, and is when the place would be given back."""
    node = make_node(max_sessions_per_user=1)
    creating = Paused(node, lifecycle.create(node.core, Client(), "ana", {}), op.CreateSession)
    node.advance(61)  # it is late: others take its place for one that lapsed
    looking = Paused(node, lifecycle.create(node.core, Client(), "ana", {}), op.GiveBack)
    if acts == "reserves":
        session_id = creating.step.session_id
        assert node.store.execute(op.Reserve("ana", session_id, 1)).ok
        with pytest.raises(LimitReachedError):
            looking.go_on()
    else:
        with pytest.raises(LimitReachedError, match="MAX_SESSIONS_PER_USER=1 lapsed"):
            creating.go_on()
        looking.go_on()
    assert len(ids(node, "ana")) <= 1


def test_what_is_bound_in_the_millisecond_of_a_look_stays(make_node: Callable[..., Node]) -> None:
    node = make_node(max_sessions_per_user=1)
    node.store.freeze(1_800_000_000_000)
    creating = Paused(node, lifecycle.create(node.core, Client(), "ana", {}), op.CreateSession)
    ending = Paused(node, lifecycle.end_user(node.core, "ana", None, "user"), op.GiveBack)
    creating.go_on()
    assert node.store.execute(ending.step) is False
    ending.die()
    with pytest.raises(LimitReachedError):
        node.sessions.create(user="ana")
    assert len(ids(node, "ana")) == 1


def test_a_place_that_nobody_bound_is_free_when_it_is_needed(make_node: Callable[..., Node]) -> None:
    node = make_node(max_sessions_per_user=1)
    session, _ = node.sessions.create()
    Paused(node, lifecycle.rotate(node.core, session._record, "ana"), op.RotateSession).die()
    node.advance(9)
    session.extend()
    for _ in range(6):
        with pytest.raises(LimitReachedError):
            node.sessions.create(user="ana")
        node.advance(9)
        session.extend()
    kept, _ = node.sessions.create(user="ana")
    assert node.sessions.end_user("ana", except_id=kept.id) == 0
    assert members(node.store.execute, "ana") == (kept.id,)


@pytest.mark.parametrize(
    ("limits", "user", "named"),
    [
        ({"max_sessions": 3}, "ana", "MAX_SESSIONS=3"),
        ({"max_sessions": 3, "max_sessions_per_user": 2}, "ana", "MAX_SESSIONS_PER_USER=2"),
        ({"max_sessions": 3, "max_sessions_per_user": 2}, None, "MAX_SESSIONS=3"),
    ],
)
def test_who_comes_too_late_for_its_place_hears_which_limit_it_was(
    make_node: Callable[..., Node], limits: dict[str, int], user: str | None, named: str
) -> None:
    node = make_node(**limits)
    for flow in (lifecycle.create(node.core, Client(), user, {}), lifecycle.track(node.core, "key", user, {})):
        late = Paused(node, flow, op.CreateSession)
        node.advance(61)
        with pytest.raises(LimitReachedError, match=named) as caught:
            late.go_on()
        assert named == f"{caught.value.limit}={caught.value.value}"
    assert node.sessions.list()[0] == []


# --- leaving a user and coming back, while what was left is being given back ----------------------------------


@pytest.mark.parametrize("limit", [0, 1])
@pytest.mark.parametrize("when", [op.RotateSession, op.Confirm, None], ids=["reserved", "bound", "confirmed"])
@pytest.mark.parametrize("delivered", [0, 1], ids=["place and shares", "shares"])
def test_a_session_that_comes_back_to_its_user_stays_in_its_books(
    make_node: Callable[..., Node], limit: int, when: type[op.Operation[Any]] | None, delivered: int
) -> None:
    """Two passes have read what it left with ana: one is late, the other delivers nothing after it came back."""
    node = make_node(max_sessions_per_user=limit, max_resources_per_user=1)
    node.store.freeze(1_800_000_000_000)  # all in one millisecond: time alone tells nothing apart
    session, _ = node.sessions.create(user="ana")
    rid, _ = node.write(session)
    session.log_in("bob")
    late = Paused(node, drain(partition_of(session.id)), op.GiveBack, delivered)
    log_in = lifecycle.rotate(node.core, session._record, "ana")
    if when is None:
        run(log_in, node.store)
        late.go_on()
    else:
        back = Paused(node, log_in, when)
        late.go_on()
        if limit:
            with pytest.raises(LimitReachedError, match="MAX_SESSIONS_PER_USER"):
                node.sessions.create(user="ana")
        back.go_on()
    session = node.sessions.attach(session.id)
    assert ids(node, "ana") == [session.id]
    with pytest.raises(LimitReachedError, match="MAX_RESOURCES_PER_USER"):
        node.write(session)
    if limit:
        with pytest.raises(LimitReachedError, match="MAX_SESSIONS_PER_USER"):
            node.sessions.create(user="ana")
    session.delete(rid)
    node.sweep.run_once()
    node.write(session)
    node.sessions.create(user="bob")  # its place there was given back
    assert node.sessions.end_user("ana") == 1


def test_a_session_that_left_its_user_takes_nothing_along(make_node: Callable[..., Node]) -> None:
    node = make_node(max_sessions_per_user=1, max_resources_per_user=1)
    node.store.freeze(1_800_000_000_000)
    session, _ = node.sessions.create(user="ana")
    node.write(session)
    session.log_in("bob")
    node.sweep.run_once()
    other, _ = node.sessions.create(user="ana")
    node.write(other)
    assert ids(node, "bob") == [session.id]
    assert node.sessions.end_user("ana") == 1
    assert node.sessions.end_user("bob") == 1


# --- shares of a user's quota ---------------------------------------------------------------------------------


def begin(node: Node, session: Session) -> Flow[Any]:
    """The flow that registers a new file of 10 bytes."""
    return files.begin(node.core, session._record, "", "", 10, None)


def shares(node: Node, user: str = "ana") -> int:
    """How many shares are taken, whoever holds them."""
    return len(node.store._send(["HKEYS", node.store.keys.user_quota(user)], "", False)[:-1])


QUOTAS = [{"max_resources_per_user": 1}, {"max_bytes_per_user": 10}]


@pytest.mark.parametrize("quota", QUOTAS)
@pytest.mark.parametrize("session_ends", [False, True])
def test_a_share_that_was_reserved_for_no_file_is_free_after_a_minute(
    make_node: Callable[..., Node], quota: dict[str, int], session_ends: bool
) -> None:
    node = make_node(idle_timeout=1000, max_duration=0, **quota)
    session, _ = node.sessions.create(user="ana")
    Paused(node, begin(node, session), op.Register).die()
    other, _ = node.sessions.create(user="ana")
    if session_ends:
        session.end()
        node.sweep.run_once()
    for seconds in (0, 59):
        node.advance(seconds)
        with pytest.raises(LimitReachedError, match="PER_USER"):
            node.write(other, 10, max_size=10)
    node.advance(2)
    rid, _ = node.write(other, 10, max_size=10)
    assert shares(node) == 1
    node.advance(61)
    with pytest.raises(LimitReachedError, match="PER_USER"):  # that one is a file's
        node.write(other, 10, max_size=10)
    other.delete(rid)
    node.sweep.run_once()
    assert shares(node) == 0


@pytest.mark.parametrize("quota", QUOTAS)
def test_a_writer_who_comes_when_its_share_is_somebody_elses_is_refused(
    make_node: Callable[..., Node], quota: dict[str, int]
) -> None:
    node = make_node(idle_timeout=100, max_duration=0, **quota)
    session, _ = node.sessions.create(user="ana")
    late = Paused(node, begin(node, session), op.Register)
    node.advance(61)
    node.write(session, 10, max_size=10)
    with pytest.raises(LimitReachedError, match="lapsed"):
        late.go_on()
    assert len(session.resources()) == 1
    assert shares(node) == 1


@pytest.mark.parametrize("step", [op.Commit, op.ReserveQuota, op.Grow])
def test_a_share_of_a_session_that_ended_is_not_made_again(
    make_node: Callable[..., Node], step: type[op.Operation[Any]]
) -> None:
    node = make_node(max_resources_per_user=1)
    session, _ = node.sessions.create(user="ana")
    rid, _, size = run(begin(node, session), node.store)
    if step is op.Grow:
        late = Paused(node, files.grow(node.core, session._record, rid, size, 20), op.ReserveQuota)
    else:
        late = Paused(node, files.commit(node.core, session._record, rid, 10), step)
    session.end()
    node.sweep.run_once()
    assert shares(node) == 0
    if step is op.ReserveQuota:
        late.go_on()
    else:
        with pytest.raises(SessionEndedError):
            late.go_on()
    assert shares(node) == 0
    other, _ = node.sessions.create(user="ana")
    node.write(other)


def test_files_of_a_session_that_is_due_lock_nobody_out(make_node: Callable[..., Node]) -> None:
    node = make_node(max_resources_per_user=2, idle_timeout=100, max_duration=0)
    idle, _ = node.sessions.create(user="ana")
    node.write(idle)
    node.write(idle)
    node.advance(100)
    session, _ = node.sessions.create(user="ana")
    node.write(session)
    node.write(session)
    with pytest.raises(LimitReachedError):
        node.write(session)
    assert shares(node) == 2


def test_a_share_made_under_a_name_that_its_session_has_left_is_free_at_the_limit(
    make_node: Callable[..., Node],
) -> None:
    """Two requests at once: one begins a file, one logs somebody else in."""
    node = make_node(max_resources_per_user=1, idle_timeout=100, max_duration=0)
    session, _ = node.sessions.create(user="ana")
    writing = Paused(node, begin(node, session), op.Register)
    node.sessions.attach(session.id).log_in("bob")
    writing.go_on()
    with pytest.raises(LimitReachedError, match="MAX_RESOURCES_PER_USER"):
        node.write(node.sessions.attach(session.id))  # the file counts with whose the session is now
    ana, _ = node.sessions.create(user="ana")
    node.sweep.run_once()
    node.advance(61)
    node.write(ana)
