"""A key of an app's own after a failover: the session that it names may have been touched: it is touched, not ended."""

from __future__ import annotations

from driving import IDLE, LONGEST, OTHER_MAC, P, Subject, create_op

from sessionsweep.store import operations as op

KEY = "a" * 32


def test_an_alias_s_session_that_seems_idle_is_touched_while_idle_ends_are_held(store: Subject) -> None:
    first = store.create(alias=KEY)
    store.advance(IDLE)
    store.restart()
    again = store.do(create_op(alias=KEY, mac=OTHER_MAC, hold=5000))
    assert again.record is not None
    assert (again.record.session_id, again.record.last_activity) == (first, store.now)
    assert store.do(op.FindAlias(P, KEY)) == first
    store.advance(5000)
    assert store.record(first).last_activity == store.now - 5000
    store.advance(IDLE)
    assert store.create(alias=KEY, hold=5000) != first, "the hold is over"


def test_an_alias_s_session_ends_by_its_age_whatever_is_held(store: Subject) -> None:
    first = store.create(alias=KEY)
    store.advance(LONGEST)
    store.restart()
    assert store.create(alias=KEY, hold=5000) != first
