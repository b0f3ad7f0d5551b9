"""Conformance: events as every store tells them, and how they are read on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from driving import DISK, MAC, NEW_MAC, OTHER_DISK, PROCESS, P, RedisSubject, Subject, create_op

from sessionsweep.errors import StoreError
from sessionsweep.model.events import CAP, CATALOGUE, DEPLOYMENT, NOW, Event, EventName
from sessionsweep.model.holds import Hold
from sessionsweep.model.ids import new_resource_id
from sessionsweep.model.states import Outcome
from sessionsweep.store import operations as op
from sessionsweep.store.operations.events import MOST_EVENTS


def told(store: Subject, partition: str = P, after: str = "", count: int = MOST_EVENTS) -> list[Event]:
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


def test_a_page_says_whether_there_is_more(store: Subject) -> None:
    for _ in range(3):
        store.create()
    first = store.do(op.Events(P, "", 2))
    assert first.more
    assert not store.do(op.Events(P, first.last, 2)).more
    assert store.do(op.Events(P, first.events[0].id, 2)).more
    assert not store.do(op.Events(P, NOW, 1)).more


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
    kept = told(store, DEPLOYMENT)
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


def test_the_latest_come_first_and_pages_go_back_to_the_oldest(store: Subject) -> None:
    for before in ("", f"{P}:0-0"):
        assert store.do(op.EventsBefore(P, before)) == op.EventPage((), before)
    for _ in range(7):
        store.create()
    kept = told(store)
    found: list[Event] = []
    page = store.do(op.EventsBefore(P, count=3))
    while page.more:
        assert len(page.events) == 3
        assert page.last == page.events[-1].id
        found += page.events
        page = store.do(op.EventsBefore(P, page.last, 3))
    found += page.events
    assert found == kept[::-1]
    assert store.do(op.EventsBefore(P, kept[0].id)) == op.EventPage((), kept[0].id)
    assert store.do(op.EventsBefore(P, kept[1].id, 1)).events == (kept[0],)
    assert not page.lost


def test_going_back_takes_places_of_events_only() -> None:
    for place in (NOW, "x", "08:1-1", f"{P}:1"):
        with pytest.raises(ValueError, match="no "):
            op.EventsBefore(P, place)


def test_a_page_is_bounded() -> None:
    for count in (0, -1, MOST_EVENTS + 1):
        for kind in (op.Events, op.EventsBefore):
            with pytest.raises(ValueError, match=f"1 to {MOST_EVENTS}"):
                kind(P, "", count)


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
        back = store.do(op.EventsBefore(DEPLOYMENT, event.id, 2))
        assert (back.events, back.more) == ((), True)
        assert back.last not in ("", event.id)
    finally:
        store.close()


def story(store: Subject, partition: str = P, after: str = "") -> list[tuple[object, ...]]:
    """What happened: (name, session or resource, fields' values)."""
    return [(e.name, e.resource_id or e.session_id, *e.fields.values()) for e in told(store, partition, after)]


def test_a_session_is_told_from_its_beginning_to_its_last_file(store: Subject) -> None:
    sid = store.create(user="ana")
    kept, dropped = store.file(sid, size=40), store.register(sid, location=OTHER_DISK)
    store.do(op.RotateSession(sid, (MAC,), NEW_MAC, user="bob"))
    store.do(op.Release(sid, dropped))
    store.settle(sid, dropped, "gone", OTHER_DISK)
    taken = store.file(sid)
    store.settle(sid, taken, "promoted", own=True)
    store.end(sid)
    store.settle(sid, kept, "failed", error="EIO: x", tries=2)
    store.settle(sid, kept, "failed", error="EIO: y", tries=2)
    store.do(op.RetryDead(sid, kept))
    store.settle(sid, kept, "deleted")
    store.settle(sid, kept, "deleted")  # told again, nothing happens again
    assert story(store) == [
        ("session_created", sid),
        ("resource_registered", kept, "file", DISK),
        ("resource_committed", kept, 40),
        ("resource_registered", dropped, "file", OTHER_DISK),
        ("session_rotated", sid, "bob"),
        ("resource_released", dropped),
        ("resources_reclaimed", sid, OTHER_DISK, 0, 1, 0, 0, 0),
        ("resource_registered", taken, "file", DISK),
        ("resource_committed", taken, 100),
        ("resource_promoted", taken),
        ("session_ended", sid, "logout", 1),
        ("resource_failed", kept, DISK, "EIO: x", 1, 1),
        ("resource_failed", kept, DISK, "EIO: y", 2, 1),
        ("resource_dead_lettered", kept, DISK, "EIO: y"),
        ("resources_reclaimed", sid, DISK, 1, 0, 0, 0, 40),
        ("session_reclaimed", sid),
    ]


def test_a_batch_is_told_in_one_event(store: Subject) -> None:
    sid = store.create()
    ids = [store.file(sid, size=10) for _ in range(6)]
    store.end(sid)
    now = store.do(op.Events(P, NOW)).last
    failed = [op.Attempt(rid, Outcome.FAILED, 1, f"EIO {n}") for n, rid in enumerate(ids[:2])]
    store.do(op.Settle(sid, DISK, (*failed, *(op.Attempt(rid, Outcome.DELETED) for rid in ids[2:]))))
    assert story(store, after=now) == [
        ("resource_failed", ids[0], DISK, "EIO 0", 1, 2),
        ("resources_reclaimed", sid, DISK, 4, 0, 0, 0, 40),
    ]


def test_a_limit_is_told_once_a_second_for_each_session(store: Subject) -> None:
    one, other = store.create(), store.create()
    now = store.do(op.Events(P, NOW)).last

    def refuse(sid: str) -> None:
        assert store.do(op.Register(sid, new_resource_id(), "f", DISK, 10, max_bytes=9)).status == "limit:bytes"

    for _ in range(3):
        refuse(one)
    refuse(other)
    store.do(op.Register(one, new_resource_id(), "s", PROCESS, 0, max_streams=0, live=True))
    store.advance(1000)
    refuse(one)
    assert story(store, after=now) == [
        ("limit_reached", one, "MAX_BYTES_PER_SESSION", 9, ""),
        ("limit_reached", other, "MAX_BYTES_PER_SESSION", 9, ""),
        ("limit_reached", one, "MAX_STREAMS_PER_SESSION", 0, ""),
        ("limit_reached", one, "MAX_BYTES_PER_SESSION", 9, ""),
    ]


def test_growing_tells_a_limit_only_where_the_caller_takes_no_less(store: Subject) -> None:
    sid = store.create()
    rid = store.register(sid, size=10)
    now = store.do(op.Events(P, NOW)).last
    store.do(op.Grow(sid, rid, 100, max_bytes=50, tell=False))
    assert story(store, after=now) == []
    store.do(op.Grow(sid, rid, 60, max_bytes=50))
    assert story(store, after=now) == [("limit_reached", sid, "MAX_BYTES_PER_SESSION", 50, "")]


def test_another_address_is_told_whether_or_not_it_is_let_in(store: Subject) -> None:
    sid = store.create(family=4, fingerprint=b"aaa")
    now = store.do(op.Events(P, NOW)).last
    store.open(sid, family=4, fingerprint=b"aaa")
    assert story(store, after=now) == []
    for fingerprint in (b"bbb", b"ccc", b"aaa"):  # as fast as a thief can: told once
        assert store.open(sid, family=4, fingerprint=fingerprint).status is op.OpenStatus.MISMATCH
    store.advance(1000)
    assert store.open(sid, family=4, fingerprint=b"ddd", enforce=True).status is op.OpenStatus.REFUSED
    assert story(store, after=now) == [("session_address_changed", sid, 0), ("session_address_changed", sid, 1)]


def test_holds_are_told_when_they_change(store: Subject) -> None:
    hold = Hold("all", "rolled-back", "an old snapshot", 5, "n")
    store.do(op.TablePut("holds", "all", hold.encode(), only_new=True))
    store.do(op.TablePut("holds", "all", replace(hold, since=9).encode(), only_new=True))  # it stands, as it was
    store.do(op.TablePut("holds", "idle", replace(hold, reason="restarted").encode()))
    store.do(op.TablePut("holds", "idle", replace(hold, reason="clock-jumped").encode()))
    store.do(op.TablePut("holds", "x", "{damaged"))
    store.do(op.TablePut("vols", "all", hold.encode()))
    store.do(op.TableDrop("holds", "all"))
    store.do(op.TableDrop("holds", "all"))
    told_of = [(e.name, *e.fields.values()) for e in told(store, DEPLOYMENT)]
    assert told_of[:3] == [
        ("hold_set", "all", "rolled-back", "an old snapshot"),
        ("hold_set", "idle", "restarted", "an old snapshot"),
        ("hold_set", "idle", "clock-jumped", "an old snapshot"),
    ]
    assert told_of[3][:3] == ("hold_set", "x", "unreadable")
    assert told_of[4:] == [("hold_lifted", "all")]


@pytest.fixture
def broken(redis_url: str, namespace: str) -> Iterator[RedisSubject]:
    """A store whose partition's stream is of another type; a session with a file and an intent is there already."""
    store = RedisSubject(redis_url, namespace)
    yield store
    store.close()


def snapshot(store: RedisSubject) -> dict[bytes, bytes | None]:
    keys = store.client.scan_iter(f"{store.keys.namespace}:*")
    return {key: store.client.dump(key) for key in keys if b"once" not in key}  # type: ignore[misc]


def test_a_stream_that_cannot_be_written_leaves_nothing_half_done(broken: RedisSubject) -> None:
    store = broken
    sid = store.create(family=4, fingerprint=b"aaa")
    rid, intent, due = store.file(sid), store.register(sid), store.register(sid)
    dead, ended = store.file(over := store.create()), over
    store.end(ended)
    store.settle(ended, dead, "failed", tries=1, error="EIO")
    owing = store.create()
    last = store.file(owing)
    store.end(owing)
    store.client.delete(store.keys.events(P))
    store.client.set(store.keys.events(P), "x")
    before = snapshot(store)
    steps: list[op.Operation[object]] = [
        create_op(),
        op.RotateSession(sid, (MAC,), NEW_MAC, user="ana"),
        op.Register(sid, new_resource_id(), "f", "v.disk222222222222", 1),
        op.Register(sid, new_resource_id(), "f", DISK, 1, max_resources=3),  # it evicts
        op.Grow(sid, due, 200, max_bytes=350),  # it evicts
        op.Commit(sid, intent, 10),
        op.Release(sid, rid),
        op.EndSession(sid, "logout"),
        op.Readopt(sid, new_resource_id(), DISK, 1),
        op.Settle(owing, DISK, (op.Attempt(last, Outcome.DELETED),)),
        op.Settle(owing, DISK, (op.Attempt(last, Outcome.FAILED, 1, "EIO"),), tries=1),
        op.DropDead(ended, dead),
    ]
    for step in steps:
        with pytest.raises(StoreError):
            store.do(step)
        assert snapshot(store) == before, step
    # what is only remarked doesn't stop anything
    assert store.do(op.Register(sid, new_resource_id(), "f", DISK, 1, max_bytes=0)).status == "limit:bytes"
    assert store.open(sid, family=4, fingerprint=b"bbb").status is op.OpenStatus.MISMATCH
