"""The tables of transitions against what the stores do: every operation on a resource or session in every state."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from driving import DISK, P, Subject

from sessionsweep.model.states import RESOURCE_TRANSITIONS, SESSION_TRANSITIONS, ResourceState, SessionState
from sessionsweep.store import operations as op

TIMEOUT = 1000  # ms after which an intent is overdue; far from any session's end


def make_resource(store: Subject, state: ResourceState) -> tuple[str, str]:
    """A live session and its one resource in that state."""
    sid = store.create()
    rid = store.register(sid, intent_timeout=TIMEOUT)
    if state is not ResourceState.INTENT:
        assert store.do(op.Commit(sid, rid, 50)).status == "ok"
    if state in (ResourceState.OWED, ResourceState.DEAD):
        assert store.do(op.Release(sid, rid))
    if state is ResourceState.DEAD:
        assert store.settle(sid, rid, "failed", tries=1).dead == (rid,)
    return sid, rid


def overdue(store: Subject) -> None:
    """Looks for overdue intents once there are some."""
    store.advance(TIMEOUT)
    store.do(op.OverdueIntents(P))


def assume(store: Subject) -> None:
    """The same after another run of the server has begun."""
    store.restart()
    overdue(store)


WAYS: dict[str, Callable[[Subject, str, str], object]] = {
    "commit": lambda store, sid, rid: store.do(op.Commit(sid, rid, 50)),
    "grow": lambda store, sid, rid: store.do(op.Grow(sid, rid, 200, TIMEOUT)),
    "release": lambda store, sid, rid: store.do(op.Release(sid, rid)),
    "overdue": lambda store, sid, rid: overdue(store),
    "assume": lambda store, sid, rid: assume(store),
    "evict": lambda store, sid, rid: store.do(
        op.Register(sid, "0" * 16, "f", DISK, 1, max_resources=1, intent_timeout=10 * TIMEOUT)
    ),
    "settle": lambda store, sid, rid: store.settle(sid, rid, "deleted", own=True),
    "fail": lambda store, sid, rid: store.settle(sid, rid, "failed", tries=1, own=True),
    "retry": lambda store, sid, rid: store.do(op.RetryDead(sid, rid)),
    "drop": lambda store, sid, rid: store.do(op.DropDead(sid, rid)),
}


def test_every_way_of_the_table_is_tried() -> None:
    assert set(WAYS) == {way for ways in RESOURCE_TRANSITIONS.values() for way in ways}
    assert set(RESOURCE_TRANSITIONS) == set(ResourceState)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("state", ResourceState)
def test_a_resource_changes_its_state_as_the_table_says(store: Subject, state: ResourceState, way: str) -> None:
    if way == "assume":  # the run before must have been seen
        make_resource(store, ResourceState.INTENT)
        overdue(store)
    sid, rid = make_resource(store, state)
    assert store.resource(sid, rid).state is state
    WAYS[way](store, sid, rid)
    found = store.resource(sid, rid)
    expected = RESOURCE_TRANSITIONS[state].get(way, state)
    assert (None if found is None else found.state) == expected
    store.books()


def session_state(store: Subject, sid: str) -> SessionState:
    """Where a session stands, as its keys tell."""
    peeked = store.do(op.PeekSession(sid))
    assert peeked.record is None or peeked.tombstone is None, "never both"
    if peeked.record is not None:
        return SessionState.LIVE
    return SessionState.FORGOTTEN if peeked.tombstone is None else SessionState.ENDED


@pytest.mark.parametrize("owning", [False, True], ids=["owns nothing", "owns a file"])
def test_a_session_passes_through_the_states_of_the_table(store: Subject, owning: bool) -> None:
    sid = store.create()
    rid = store.file(sid) if owning else ""
    seen = [session_state(store, sid)]
    store.end(sid)
    seen.append(session_state(store, sid))
    if owning:
        store.leased()
        store.settle(sid, rid, "deleted", retention=50)
        assert store.until_lapsed(51, lambda: session_state(store, sid) is SessionState.FORGOTTEN)
        seen.append(session_state(store, sid))
    assert seen[-1] is SessionState.FORGOTTEN
    for before, after in pairwise(seen):
        assert after in SESSION_TRANSITIONS[before]


@pytest.mark.parametrize("state", SessionState)
def test_no_operation_leads_a_session_back(store: Subject, state: SessionState) -> None:
    sid = store.create()
    rid = store.file(sid)
    if state is not SessionState.LIVE:
        store.end(sid)
    if state is SessionState.FORGOTTEN:
        store.settle(sid, rid, "deleted", retention=50)
        assert store.until_lapsed(51, lambda: session_state(store, sid) is SessionState.FORGOTTEN)
    assert session_state(store, sid) is state
    store.open(sid)
    store.do(op.ExtendSession(sid, 10**6, 10**7, 10_000))
    store.do(op.SaveData(sid, {"a": b"1"}))
    store.do(op.RotateSession(sid, (b"m" * 16,), b"n" * 16))
    store.do(op.Defer(sid, "job", 10**6, "", 10_000))
    store.do(op.Undefer(sid, "job", 10_000))
    store.do(op.Register(sid, "1" * 16, "f", DISK, 1))
    store.do(op.Readopt(sid, "2" * 16, DISK, 1))
    store.do(op.UseResource(sid, rid))
    store.do(op.Mend(sid, 10_000, 1000))
    store.end(sid, "admin", only_due=True)
    assert session_state(store, sid) is state
