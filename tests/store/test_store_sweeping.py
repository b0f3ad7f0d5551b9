"""Conformance: the wheel, sweeping it, held idle ends, listing."""

from __future__ import annotations

import pytest
from driving import GRACE, IDLE, LONGEST, T0, WIDTH, P, Subject

from sessionsweep.store import operations as op

DUE = T0 + IDLE


def test_a_sweep_without_anything_due_writes_nothing(store: Subject) -> None:
    assert store.sweep() == op.Swept(0, 0, 0, 0, False, T0)
    store.create()
    store.advance(IDLE - 1)
    assert store.sweep() == op.Swept(0, 0, 0, 0, False, T0 + IDLE - 1)


def test_a_slot_is_swept_when_its_end_has_passed(store: Subject) -> None:
    store.create(idle=IDLE + 1)
    store.advance(IDLE + WIDTH - 1)
    assert store.sweep().idle == 0
    store.advance(1)
    assert store.sweep().idle == 1
    assert store.wheel() == []


def test_idle_and_expired_are_ended_in_one_pass_and_counted_apart(store: Subject) -> None:
    idle = store.create(max=0)
    expired = store.create(idle=LONGEST, max=IDLE)
    files = {idle: {store.file(idle)}, expired: {store.file(expired), store.file(expired)}}
    store.advance(IDLE)
    assert store.sweep() == op.Swept(1, 1, 0, 0, False, DUE, owed=3)
    assert (store.tombstone(idle).reason, store.tombstone(expired).reason) == ("idle", "expired")
    assert store.leased() == {}
    store.advance(GRACE)
    assert store.leased() == files


def test_a_touched_session_is_filed_again_at_its_true_slot(store: Subject) -> None:
    sid = store.create()
    store.advance(5 * WIDTH + 3)
    store.open(sid)
    store.advance(IDLE - 5 * WIDTH - 3)
    assert store.sweep() == op.Swept(0, 0, 1, 0, False, DUE)
    assert store.record(sid).filed == DUE + 6 * WIDTH
    assert store.wheel() == [sid]
    store.advance(6 * WIDTH)
    assert store.sweep().idle == 1


def test_what_ended_otherwise_is_dropped_as_stale(store: Subject) -> None:
    sid = store.create()
    store.end(sid)
    store.advance(IDLE)
    assert store.sweep() == op.Swept(0, 0, 0, 1, False, DUE)
    assert store.wheel() == []


def test_one_step_takes_at_most_limit_ids_of_the_first_slot(store: Subject) -> None:
    for _ in range(5):
        store.create()
    store.advance(WIDTH)
    store.create()
    store.advance(IDLE)
    steps = store.sweep_all(limit=2)
    assert [(step.idle, step.more) for step in steps] == [(2, True), (2, True), (1, True), (1, False)]


def test_a_bound_only_narrows_what_is_due(store: Subject) -> None:
    store.create()
    store.advance(WIDTH)
    store.create()
    store.advance(IDLE)
    assert store.sweep(bound=DUE - 1) == op.Swept(0, 0, 0, 0, False, store.now)
    step = store.sweep(bound=DUE)
    assert (step.idle, step.more) == (1, False)
    assert store.sweep(bound=store.now + 10**9).idle == 1


def test_observing_tells_and_ends_nobody(store: Subject) -> None:
    idle = store.create(max=0)
    expired = store.create(idle=LONGEST, max=IDLE)
    store.create(idle=2 * IDLE)
    store.advance(IDLE)
    step = store.sweep(observe=True)
    assert set(step.would) == {f"{idle} idle", f"{expired} expired"}
    assert (step.idle, step.expired, step.refiled, step.more) == (0, 0, 2, False)
    assert (store.record(idle).filed, store.record(expired).filed) == (DUE + WIDTH, DUE + WIDTH)
    assert store.sweep(observe=True).would == ()
    store.advance(WIDTH)
    assert len(store.sweep(observe=True).would) == 2
    assert store.books() == {"created": 3}


def test_a_sweep_ends_each_session_once(store: Subject) -> None:
    sid = store.create()
    store.do(op.ExtendSession(sid, idle=60_000, width=WIDTH))
    store.advance(IDLE)
    steps = store.sweep_all()
    assert (sum(step.idle for step in steps), sum(step.stale for step in steps)) == (1, 1)
    assert store.books()["ended"] == 1


def test_an_entry_of_another_slot_is_dropped_although_its_session_lives(store: Subject) -> None:
    sid = store.create()
    store.do(op.ExtendSession(sid, idle=60_000, width=WIDTH))
    store.do(op.ExtendSession(sid, idle=2 * IDLE, width=WIDTH))
    assert store.wheel() == [sid, sid]
    store.advance(IDLE)
    steps = store.sweep_all()
    assert (sum(step.refiled for step in steps), sum(step.stale for step in steps)) == (1, 1)
    assert store.wheel() == [sid]


# --- holds ----------------------------------------------------------------------------------------------------


def test_held_idle_ends_wait_and_the_session_is_touched_as_if_alive(store: Subject) -> None:
    swept, opened = store.create(max=0), store.create(max=0)
    assert store.do(op.HoldIdle(P, 2 * IDLE)) == T0 + 2 * IDLE
    store.advance(IDLE)
    step = store.sweep()
    assert (step.idle, step.refiled, step.held_until) == (0, 2, T0 + 2 * IDLE)
    assert store.record(swept).filed == T0 + 2 * IDLE
    assert store.end(swept, "", only_due=True).live
    assert store.open(opened).status is op.OpenStatus.OK
    assert store.record(opened).last_activity == DUE
    store.advance(IDLE)
    step = store.sweep()
    assert (step.idle, step.stale, step.held_until) == (2, 0, 0)


def test_absolute_and_said_ends_go_on_while_idle_ends_are_held(store: Subject) -> None:
    swept, opened, said = store.create(max=IDLE), store.create(max=IDLE), store.create(max=IDLE)
    store.do(op.HoldIdle(P, 10 * IDLE))
    store.advance(IDLE)
    assert store.open(opened).reason == "expired"
    assert store.end(said).done
    step = store.sweep()
    assert (step.expired, step.stale, step.held_until) == (1, 2, 0)
    assert store.do(op.PeekSession(swept)).record is None


def test_a_held_session_is_looked_at_again_at_its_absolute_end(store: Subject) -> None:
    sid = store.create(max=IDLE + 5 * WIDTH)
    store.do(op.HoldIdle(P, 10 * IDLE))
    store.advance(IDLE)
    assert store.sweep().refiled == 1
    assert store.record(sid).filed == T0 + IDLE + 5 * WIDTH
    store.advance(5 * WIDTH)
    assert store.sweep().expired == 1


def test_a_hold_is_never_shortened(store: Subject) -> None:
    assert store.do(op.HoldIdle(P, 5000)) == T0 + 5000
    assert store.do(op.HoldIdle(P, 1000)) == T0 + 5000
    store.advance(4500)
    assert store.do(op.HoldIdle(P, 1000)) == T0 + 5500


def test_a_hold_is_lifted_by_a_hold_of_nothing(store: Subject) -> None:
    sid = store.create()
    store.do(op.HoldIdle(P, 10 * IDLE))
    store.advance(IDLE)
    assert store.end(sid, "", only_due=True).live
    assert store.do(op.HoldIdle(P, 0)) == 0
    assert store.end(sid, "", only_due=True).reason == "idle"


def test_a_hold_is_its_partition_s_own(store: Subject) -> None:
    store.create()
    store.do(op.HoldIdle("08", 10 * IDLE))
    store.advance(IDLE)
    assert store.sweep().idle == 1


def test_a_restarted_server_stops_idle_ends_for_the_hold(store: Subject) -> None:
    first, second = store.create(), store.create(max=0)
    store.advance(IDLE)
    assert store.end(first, "", only_due=True, hold=IDLE).done  # the partition knows its server from here on
    store.restart()
    held = store.end(second, "", only_due=True, hold=5000)
    assert (held.done, held.live) == (False, True)
    store.advance(4999)
    assert store.open(second, hold=5000, touch=False).status is op.OpenStatus.OK
    store.advance(1)
    assert store.open(second, hold=5000, touch=False).reason == "idle"


@pytest.mark.parametrize("by", ["sweep", "open", "end"])
def test_whoever_looks_first_after_the_restart_holds(store: Subject, by: str) -> None:
    first = store.create()
    store.advance(IDLE)
    store.end(first, "", only_due=True, hold=IDLE)
    second = store.create(max=0)
    store.restart()
    store.advance(IDLE)
    if by == "sweep":
        assert store.sweep_all(hold=5000)[-1].held_until == store.now + 5000
    elif by == "open":
        assert store.open(second, hold=5000).status is op.OpenStatus.OK
    else:
        assert store.end(second, "", only_due=True, hold=5000).live
    assert store.record(second).session_id == second


def test_a_restart_is_noticed_from_the_first_session_on(store: Subject) -> None:
    store.create()
    store.restart()
    store.advance(IDLE)
    assert store.sweep(hold=5000).held_until == store.now + 5000


@pytest.mark.parametrize("duration", [5000, 0])
def test_a_restart_that_was_held_or_lifted_is_not_held_once_more(store: Subject, duration: int) -> None:
    """A worker sees the restart at once; the wheel asks only when somebody is due, perhaps when that hold is over."""
    store.create(max=0)
    store.restart()
    store.do(op.HoldIdle(P, 5000))
    if not duration:
        store.restart()
        store.do(op.HoldIdle(P, 0))  # an operator lifts it
    store.advance(IDLE)
    assert store.sweep(hold=5000).idle == 1


def test_a_first_server_holds_nothing(store: Subject) -> None:
    store.create()
    store.advance(IDLE)
    assert store.sweep(hold=10**9).idle == 1


# --- listing --------------------------------------------------------------------------------------------------


def test_the_wheel_is_listed_in_due_order_page_by_page(store: Subject) -> None:
    late = [store.create(idle=IDLE + 5 * WIDTH) for _ in range(4)]
    early = [store.create() for _ in range(5)]
    assert store.wheel() == early + late
    page, slot, offset = store.do(op.ListWheel(P, limit=4))
    assert list(page) == early[:4]
    rest, slot, offset = store.do(op.ListWheel(P, slot, offset, limit=100))
    assert (list(rest), slot) == (early[4:] + late, 0)


def test_what_lives_throughout_is_listed_although_others_come_and_go(store: Subject) -> None:
    stays = [store.create(idle=IDLE + i * WIDTH) for i in range(6)]
    page, slot, offset = store.do(op.ListWheel(P, limit=3))
    store.create(idle=IDLE)
    store.end(stays[0])
    seen = list(page)
    while slot:
        page, slot, offset = store.do(op.ListWheel(P, slot, offset, limit=3))
        seen += page
    assert set(stays[1:]) <= set(seen)


@pytest.mark.parametrize("page", [1, 7, 30])
@pytest.mark.parametrize("twice", [False, True], ids=["", "some filed twice"])
def test_what_lives_throughout_is_listed_although_a_sweep_takes_from_the_head(
    store: Subject, page: int, twice: bool
) -> None:
    """It takes what is due, stops after a step, and the rest of the slot moves up."""
    sids = [store.create(max=0) for _ in range(35)]
    store.advance(IDLE - WIDTH)
    for sid in sids:
        if twice:  # back in the same slot, which lists it once more
            store.do(op.ExtendSession(sid, 5 * WIDTH, width=WIDTH))
            store.do(op.ExtendSession(sid, WIDTH, width=WIDTH))
        store.open(sid)
        store.do(op.ExtendSession(sid, IDLE, width=WIDTH))
    late = [store.create(max=0, idle=WIDTH) for _ in range(25)]
    store.advance(WIDTH)
    for sid in late:
        store.open(sid)
    seen: list[str] = []
    slot = offset = calls = 0
    after = ""
    while True:
        ids, slot, offset = store.do(op.ListWheel(P, slot, offset, page, after))
        seen += ids
        after = ids[-1] if ids else ""
        calls += 1
        if not slot:
            break
        if calls in (1, 3):
            store.sweep(limit=25 if calls == 1 else 4)
    assert set(sids) <= set(seen)
    assert calls < 300


def test_a_sparse_wheel_is_listed_to_the_end(store: Subject) -> None:
    sids = [store.create(idle=WIDTH * i, max=0) for i in range(1, 451)]
    seen: list[str] = []
    slot = offset = 0
    while True:
        page, slot, offset = store.do(op.ListWheel(P, slot, offset, limit=100))
        seen += page
        if not slot:
            break
    assert seen == sids
