"""Conformance: what operators look at in a queue."""

from __future__ import annotations

from driving import DISK, OTHER_DISK, PROCESS, T0, P, Subject

from sessionsweep.store import operations as op


def owing(store: Subject, number: int, **fields: int) -> list[str]:
    """Sessions that ended a millisecond apart, each owing one file."""
    ids = []
    for _ in range(number):
        sid = store.create()
        store.file(sid, **fields)
        store.end(sid)
        store.advance(1)
        ids.append(sid)
    return ids


def page(store: Subject, location: str = DISK, **fields: int) -> list[tuple[str, int]]:
    return [(one.session_id, one.next_attempt) for one in store.do(op.QueuePage(P, location, **fields))]


def test_a_queue_is_told_in_the_order_of_what_is_due_first(store: Subject) -> None:
    ids = owing(store, 4)
    whole = [(sid, T0 + n) for n, sid in enumerate(ids)]
    assert page(store) == whole
    assert page(store, limit=2) == whole[:2]
    assert page(store, since=T0 + 1) == whole[1:]
    assert page(store, since=T0 + 1, skip=1, limit=1) == whole[2:3]
    assert page(store, latest=True, limit=3) == whole[:0:-1]
    assert page(store, OTHER_DISK) == []


def test_pages_tell_each_of_many_that_are_due_at_once(store: Subject) -> None:
    ids = []
    for _ in range(7):
        ids.append(store.create())
        store.file(ids[-1])
    for sid in ids:
        store.end(sid)
    found: list[str] = []
    while more := page(store, since=T0, skip=len(found), limit=3):
        found += [sid for sid, _ in more]
    assert sorted(found) == sorted(ids)


def test_what_a_worker_puts_off_stands_further_back(store: Subject) -> None:
    first, second = owing(store, 2)
    (rid,) = (one.resource_id for one in store.do(op.ListResources(first)))
    store.settle(first, rid, "failed", delay=5000, error="EIO")
    assert page(store) == [(second, T0 + 1), (first, T0 + 2 + 5000)]


def test_streams_of_live_sessions_are_not_owed(store: Subject) -> None:
    sid = store.create()
    store.register(sid, kind="s", location=PROCESS, live=True)
    assert page(store, PROCESS) == page(store, PROCESS, latest=True) == []
    store.end(sid)
    assert page(store, PROCESS) == page(store, PROCESS, latest=True) == [(sid, T0)]
