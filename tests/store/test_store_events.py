"""Conformance: events as every store tells them, and how they are read on."""

from __future__ import annotations

import pytest
from driving import P, RedisSubject, Subject

from sessionsweep.model.events import CAP, CATALOGUE, DEPLOYMENT, NOW, Event, EventName
from sessionsweep.store import operations as op


def told(store: Subject, partition: str = P, after: str = "", count: int = 500) -> list[Event]:
    """All events behind a cursor, page by page."""
    found: list[Event] = []
    while True:
        page = store.do(op.Events(partition, after, count))
        found += page.events
        if not page.events:
            assert page.last == after or not after
            return found
        after = page.last


def emit(store: Subject, number: int, once: str = "") -> bool:
    return store.do(op.Emit(EventName.LIMIT_REACHED, fields={"limit": "MAX_SESSIONS", "value": number}, once=once))


def test_each_page_goes_on_where_the_last_one_ended(store: Subject) -> None:
    ids = [store.create() for _ in range(7)]
    found = told(store, count=3)
    assert [event.session_id for event in found if event.name is EventName.SESSION_CREATED] == ids
    assert len({event.id for event in found}) == len(found)
    assert all(event.partition == P and event.at > 0 for event in found)


def test_whoever_begins_now_is_told_only_what_comes(store: Subject) -> None:
    quiet = store.do(op.Events(P, NOW))
    assert quiet == op.EventPage((), f"{P}:0-0")
    store.create()
    now = store.do(op.Events(P, NOW))
    assert now.events == ()
    assert not now.lost
    sid = store.create()
    (event,) = told(store, after=now.last)
    assert (event.name, event.session_id) == (EventName.SESSION_CREATED, sid)
    assert [event.session_id for event in told(store, after=quiet.last)][-1] == sid  # nothing was there: nothing missed


def test_what_was_dropped_before_it_was_read_is_said_to_be_lost_once(store: Subject) -> None:
    emit(store, 0)
    first = store.do(op.Events(DEPLOYMENT))
    assert not first.lost
    store.many([op.Emit(EventName.LIMIT_REACHED, fields={"value": n}) for n in range(CAP + 500)])
    page = store.do(op.Events(DEPLOYMENT, first.last, 10))
    assert page.lost
    assert len(page.events) == 10
    assert not store.do(op.Events(DEPLOYMENT, page.last)).lost
    kept = told(store, DEPLOYMENT, count=1000)
    assert CAP <= len(kept) <= CAP + 200  # the stream is capped, whoever fills it
    assert kept[-1].fields["value"] == CAP + 499


def test_a_cursor_ahead_of_a_stream_that_was_set_back_finds_what_comes_next(store: Subject) -> None:
    emit(store, 1)
    ahead = f"{DEPLOYMENT}:999999999999999-0"
    page = store.do(op.Events(DEPLOYMENT, ahead))
    assert page.lost
    assert page.events == ()
    emit(store, 2)
    again = store.do(op.Events(DEPLOYMENT, page.last))
    assert not again.lost
    assert [event.fields["value"] for event in again.events] == [2]


@pytest.mark.parametrize("cursor", ["x", "1-1", "08:1-1", f"{P}:", f"{P}:1", f"{P}:-1-1", f"{P}:1-1 ", f"{P}:٣-1",
                                    f"{P}:{'9' * 30}-1", f"{P}:1-{2**63}", f"{P}:+"])  # fmt: skip
def test_a_cursor_that_is_none_is_refused(cursor: str) -> None:
    with pytest.raises(ValueError, match="no cursor"):
        op.Events(P, cursor)


def test_a_page_is_bounded() -> None:
    for count in (0, -1, 1001):
        with pytest.raises(ValueError, match="1 to 1000"):
            op.Events(P, "", count)


def test_the_same_is_told_once_a_second(store: Subject) -> None:
    assert emit(store, 1, "MAX_SESSIONS")
    assert not emit(store, 2, "MAX_SESSIONS")
    assert emit(store, 3, "another")
    store.advance(999)
    assert not emit(store, 4, "MAX_SESSIONS")
    store.advance(1)
    assert emit(store, 5, "MAX_SESSIONS")
    assert [event.fields["value"] for event in told(store, DEPLOYMENT)] == [1, 3, 5]


def test_texts_are_bounded_and_every_field_is_there(store: Subject) -> None:
    store.do(op.Emit(EventName.LIMIT_REACHED, fields={"limit": "x" * 5000, "value": "many", "odd": 1}))
    (event,) = told(store, DEPLOYMENT)
    assert event.fields == {"limit": "x" * 200, "value": 0, "user": ""}
    assert set(event.fields) == {one.name for one in CATALOGUE[event.name].fields}


def test_rows_that_nobody_understands_are_passed_over(redis_url: str, namespace: str) -> None:
    store = RedisSubject(redis_url, namespace)
    try:
        key = store.keys.events(DEPLOYMENT)
        for row in ({"e": "debt_closed", "s": "x"}, {"a": "b"}, {"e": b"\xff\xfe"}, {"e": ""}):
            store.client.xadd(key, row)
        store.client.xadd(key, {"e": "session_ended", "s": "../../etc", "x": "y/", "owed": "-3", "reason": b"\xff"})
        (event,) = told(store, DEPLOYMENT)
        assert (event.session_id, event.resource_id) == (None, None)
        assert event.fields == {"reason": "\ufffd", "owed": 0}
        first = store.do(op.Events(DEPLOYMENT, "", 2))
        assert first.events == ()
        assert first.last != f"{DEPLOYMENT}:0-0"
    finally:
        store.close()
