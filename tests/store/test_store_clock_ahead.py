"""Conformance: what a server wrote while its clock was ahead, and how it is found once the clock is right again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from driving import DISK, GRACE, IDLE, OTHER_MAC, PROCESS, T0, WIDTH, P, Subject

from sessionsweep.model.states import ResourceState
from sessionsweep.store import operations as op

HOUR, DAY = 3_600_000, 86_400_000
MONTH = 30 * DAY
LONG = {"idle": 3 * MONTH, "max": 0}  # a session that outlives the wrong clock


@contextmanager
def ahead(store: Subject, by: int = MONTH) -> Iterator[None]:
    """The server's clock is ahead for a moment."""
    store.advance(by)
    yield
    store.advance(-by)


def mend(store: Subject, session_id: str) -> str:
    return store.do(op.Mend(session_id, WIDTH, GRACE)).what


def be_steady(store: Subject) -> None:
    """Mending has seen the clock go on for a day."""
    mend(store, store.create(max=1))
    store.advance(DAY)


def test_what_a_log_out_left_goes_after_a_grace(store: Subject) -> None:
    with ahead(store):
        sid = store.create()
        file, stream = store.file(sid), store.register(sid, kind="s", location=PROCESS, live=True)
        store.end(sid)
    assert (store.leased(), store.leased(PROCESS)) == ({}, {})
    assert mend(store, sid) == "backdated"
    assert store.tombstone(sid).ended == T0
    assert store.leased(PROCESS) == {sid: {stream}}
    assert store.leased() == {}
    assert store.lease().next_due == T0 + GRACE
    assert mend(store, sid) == ""
    store.advance(GRACE)
    assert store.leased() == {sid: {file}}


def test_what_was_lost_meanwhile_goes_after_a_grace(store: Subject) -> None:
    sid = store.create(**LONG)
    file = store.file(sid)
    with ahead(store):
        store.lose_session(sid)
        assert mend(store, sid) == "buried"
    assert mend(store, sid) == "backdated"
    store.advance(GRACE)
    assert store.leased() == {sid: {file}}


def test_a_job_that_defers_for_long_is_waited_for(store: Subject) -> None:
    sid = store.create(**LONG)
    file, pinned = store.file(sid), store.file(sid)
    store.do(op.Defer(sid, "job", 2 * MONTH))
    store.do(op.Defer(sid, "reader", 2 * MONTH, pinned))
    store.do(op.Release(sid, pinned))
    with ahead(store):
        store.end(sid)
    assert mend(store, sid) == "backdated"
    assert store.lease().next_due == T0 + 2 * MONTH
    assert mend(store, sid) == ""
    store.do(op.Undefer(sid, "job"))
    store.advance(GRACE)
    assert store.leased() == {sid: {file}}


def test_a_back_off_of_an_ended_session_ends_after_a_grace(store: Subject) -> None:
    sid = store.create()
    file = store.file(sid)
    store.end(sid)
    with ahead(store):
        assert store.leased() == {sid: {file}}
        store.settle(sid, file, "failed", delay=HOUR, error="EIO")
    assert mend(store, sid) == "backdated"
    assert mend(store, sid) == ""
    store.advance(GRACE)
    assert store.leased(lease_id="lease-2") == {sid: {file}}
    assert store.resource(sid, file).tries == 1


def test_a_back_off_of_a_right_clock_is_left_alone(store: Subject) -> None:
    sid = store.create()
    file = store.file(sid)
    store.end(sid)
    store.leased()
    store.settle(sid, file, "failed", delay=HOUR, error="EIO")
    assert mend(store, sid) == ""
    assert store.lease().next_due == T0 + HOUR


def test_what_a_live_session_gave_up_goes_after_a_grace(store: Subject) -> None:
    sid = store.create(**LONG)
    kept, file = store.file(sid), store.file(sid)
    with ahead(store):
        store.do(op.Release(sid, file))
    assert store.leased() == {}
    assert mend(store, sid) == "backdated"
    assert mend(store, sid) == ""
    store.advance(GRACE)
    assert store.leased() == {sid: {file}}
    assert store.resource(sid, kept).state is ResourceState.LIVE


def test_a_lease_of_a_worker_that_died_meanwhile_is_over(store: Subject) -> None:
    over, live = store.create(), store.create(**LONG)
    files = {sid: {store.file(sid)} for sid in (over, live)}
    store.end(over)
    for rid in files[live]:
        store.do(op.Release(live, rid))
    with ahead(store):
        assert store.leased() == files
    assert store.leased(lease_id="lease-2") == {}
    assert [mend(store, over), mend(store, live)] == ["requeued", "requeued"]
    assert store.leased(lease_id="lease-3") == files


def test_a_lease_that_runs_is_left_alone(store: Subject) -> None:
    sid = store.create()
    store.file(sid)
    store.end(sid)
    store.leased(duration=HOUR)
    assert mend(store, sid) == ""
    assert store.leased(lease_id="lease-2") == {}


@pytest.mark.parametrize("by", [2 * HOUR, MONTH])
def test_a_session_made_meanwhile_ends_idle_as_any_other(store: Subject, by: int) -> None:
    be_steady(store)
    with ahead(store, by):
        sid = store.create()
    now = store.now
    assert mend(store, sid) == "backdated"
    record = store.record(sid)
    assert (record.created, record.last_activity) == (now + by, now), "it may outlive its maximum, by no more"
    assert record.filed - (now + IDLE) in range(WIDTH)
    assert mend(store, sid) == ""
    store.advance(IDLE + WIDTH)
    assert sum(step.idle for step in store.sweep_all()) == 1


def test_a_session_touched_meanwhile_keeps_all_else(store: Subject) -> None:
    be_steady(store)
    sid = store.create(**LONG, user="ana", data={"k": b"v"})
    made = store.now
    used, other = store.file(sid), store.file(sid)
    store.advance(1000)
    with ahead(store):
        store.open(sid)
        store.do(op.UseResource(sid, used))
        intent = store.register(sid, intent_timeout=HOUR)
    assert mend(store, sid) == "backdated"
    record = store.record(sid)
    assert (record.created, record.last_activity) == (made, store.now)
    assert (record.user, record.resource_count, record.request_count) == ("ana", 3, 2)
    assert [store.resource(sid, rid).used for rid in (used, other)] == [store.now, made]
    store.advance(HOUR)
    assert store.do(op.OverdueIntents(P)) == 1
    assert store.resource(sid, intent).state is ResourceState.OWED
    store.books()


def test_a_session_that_was_looked_at_meanwhile_is_looked_at_again_in_time(store: Subject) -> None:
    sid = store.create(max=0)
    store.open(sid)
    store.sweep()  # it notes the server's run
    with ahead(store):
        store.restart()
        assert store.sweep().held_until == T0 + MONTH + IDLE
    assert store.record(sid).filed >= T0 + MONTH
    store.do(op.HoldIdle(P, 0))
    assert mend(store, sid) == "refiled"
    store.advance(IDLE + WIDTH)
    assert store.sweep().idle == 1


def test_a_session_that_waits_for_a_long_hold_is_left_alone(store: Subject) -> None:
    sid = store.create(max=0)
    store.open(sid)
    store.sweep()
    store.advance(IDLE + WIDTH)
    store.do(op.HoldIdle(P, 14 * DAY))
    assert store.sweep(hold=14 * DAY).refiled == 1
    assert mend(store, sid) == ""


def test_a_clock_that_is_behind_for_a_moment_ends_no_session(store: Subject) -> None:
    """Which of two clocks was wrong, a time that lies ahead doesn't tell."""
    be_steady(store)
    sid = store.create(idle=IDLE)
    mend(store, sid)
    with ahead(store, -MONTH):
        assert mend(store, sid) == ""
        store.advance(DAY - 1)
        assert mend(store, sid) == ""
        store.advance(1 - DAY)
    assert store.open(sid).status is op.OpenStatus.OK


def test_a_clock_that_stays_is_the_right_one(store: Subject) -> None:
    be_steady(store)
    with ahead(store):
        sid = store.create()
        assert mend(store, sid) == ""
    assert mend(store, sid) == ""
    assert store.open(sid, OTHER_MAC).status is not op.OpenStatus.OK
    store.advance(DAY)
    assert mend(store, sid) == "backdated"


def test_clocks_that_differ_by_less_than_a_minute_change_nothing(store: Subject) -> None:
    be_steady(store)
    with ahead(store, 60_000):
        live, over = store.create(), store.create()
        store.file(live)
        store.file(over)
        store.end(over)
    books, wheel = store.books(), store.wheel()
    assert [mend(store, live), mend(store, over)] == ["", ""]
    assert (store.books(), store.wheel()) == (books, wheel)
    assert store.queue(DISK) == op.QueueDepth(DISK, 1, 0)
