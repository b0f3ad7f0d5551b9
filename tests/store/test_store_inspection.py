"""Conformance: what operators look at in a queue, and hurry."""

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


def failed(store: Subject, files: int = 1) -> tuple[str, list[str]]:
    """An ended session whose files failed once and back off for 5 s."""
    sid = store.create()
    rids = [store.file(sid) for _ in range(files)]
    store.end(sid)
    store.leased()
    for rid in rids:
        store.settle(sid, rid, "failed", delay=5000, error="EIO")
    return sid, rids


def test_what_backs_off_can_be_tried_now(store: Subject) -> None:
    sid, (rid, other) = failed(store, 2)
    store.advance(1)
    assert store.leased(lease_id="lease-2") == {}
    assert store.do(op.TryNow(sid, rid)) is True
    assert store.do(op.TryNow(sid, rid)) is False, "it is due"
    assert store.resource(sid, rid).tries == 1
    assert store.leased(lease_id="lease-3") == {sid: {rid}}, "the other one waits on"
    store.settle(sid, rid, "failed", tries=2)
    assert [one.record.resource_id for one in store.do(op.DeadLetters(P))] == [rid], "its tries were counted on"
    assert store.do(op.TryNow(sid, rid)) is False, "dead letters have a word of their own"
    assert store.do(op.TryNow(sid, other)) is True
    store.books()


def test_nothing_is_hurried_but_what_failed(store: Subject) -> None:
    live, over = store.create(), store.create()
    kept, pinned, intent = store.file(live), store.file(live), store.register(live)
    store.do(op.Defer(live, "job", 60_000, pinned, 10_000))
    store.do(op.Release(live, pinned))
    fresh, busy = store.file(over), store.file(over)
    store.end(over, "idle", grace=60_000)
    before = {sid: page(store)[n] for n, sid in enumerate((live, over))}
    for sid, rid in ((live, kept), (live, pinned), (live, intent), (over, fresh), (over, "0" * 16), ("0" * 20, kept)):
        assert store.do(op.TryNow(sid, rid)) is False
    assert {sid: page(store)[n] for n, sid in enumerate((live, over))} == before
    store.advance(60_000)
    store.leased()
    store.settle(over, busy, "busy", delay=5000)
    assert store.do(op.TryNow(over, busy)) is False, "its lock is no failure"
