"""What only the in-memory store promises: its clock, its size, its asynchronous nudges."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from driving import DISK, MAC, NEW_MAC, OTHER_MAC, P, create_op

from sessionsweep.model.events import CAP, EventName
from sessionsweep.model.ids import new_resource_id, new_session_id
from sessionsweep.model.states import EndReason, Outcome
from sessionsweep.store import operations as op
from sessionsweep.store.memory import AsyncMemoryStore, MemoryStore
from sessionsweep.store.memory.store import STEPS

LARGEST_SESSION = 400  # bytes: goal P14


def test_it_carries_out_every_operation() -> None:
    known = {kind for kind in vars(op).values() if isinstance(kind, type) and issubclass(kind, op.Operation)}
    assert set(STEPS) == known - {op.Operation}


class Unequal(bytes):
    """A secret's hash that nobody may compare byte by byte."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared in a time that tells how much of it is right")

    __ne__ = __eq__
    __hash__ = bytes.__hash__


def test_hashes_of_secrets_are_compared_in_constant_time() -> None:
    store, sid = MemoryStore(), new_session_id(P)
    right, wrong, new = Unequal(MAC), Unequal(OTHER_MAC), Unequal(NEW_MAC)
    made = create_op(sid)
    store.execute(made)
    assert store.execute(replace(made, mac=right)).status is op.OpenStatus.OK
    assert store.execute(replace(made, mac=wrong)).status is op.OpenStatus.INVALID
    assert store.execute(op.OpenSession(sid, (wrong, right))).status is op.OpenStatus.OK
    assert store.execute(op.OpenSession(sid, (wrong,))).status is op.OpenStatus.INVALID
    assert store.execute(op.SaveData(sid, {}, right)).record is not None
    assert store.execute(op.SaveData(sid, {}, wrong)).record is None
    assert store.execute(op.RotateSession(sid, (wrong,), new)).record is None
    assert store.execute(op.RotateSession(sid, (right,), new)).record is not None
    store.advance(made.idle)
    assert store.execute(op.OpenSession(sid, (wrong,))).status is op.OpenStatus.INVALID
    assert store.execute(op.OpenSession(sid, (new,))).status is op.OpenStatus.ENDED


def test_the_clock_runs_with_the_machine_s_and_can_be_moved_and_stopped() -> None:
    store = MemoryStore()
    before = time.time_ns() // 1_000_000
    now = store.execute(op.Facts()).now
    assert before - 1000 <= now <= time.time_ns() // 1_000_000 + 1000
    store.advance(60_000)
    assert now + 60_000 <= store.execute(op.Facts()).now <= now + 120_000
    store.freeze(5000)
    assert store.execute(op.Facts()).now == 5000
    store.advance(7)
    store.advance(-2)
    assert store.execute(op.Facts()).now == 5005


def test_a_clock_can_be_given() -> None:
    times = iter([10, 20, 30])
    store = MemoryStore(clock=lambda: next(times))
    assert [store.execute(op.Facts()).now for _ in range(3)] == [10, 20, 30]


SID, RID = f"{P}{'a' * 18}", "0" * 16
ATTEMPT = (op.Attempt(RID, Outcome.DELETED),)
ON_A_SESSION: list[op.Operation[Any]] = [
    op.PeekSession(SID), op.RotateSession(SID, (), NEW_MAC), op.ExtendSession(SID), op.SaveData(SID, {}),
    op.EndSession(SID, "user"), op.Defer(SID, "job-1", 1), op.Undefer(SID, "job-1"),
    op.Register(SID, RID, "f", DISK, 1), op.Grow(SID, RID, 1), op.Commit(SID, RID, 1), op.Release(SID, RID),
    op.UseResource(SID, RID), op.LiveResources(SID), op.ListResources(SID),
    op.Owned(SID, (RID,)), op.Readopt(SID, RID, DISK, 1), op.Settle(SID, DISK, ATTEMPT), op.RetryDead(SID, RID),
    op.DropDead(SID, RID), op.Mend(SID, 10_000, 0),
    op.TryNow(SID, RID),
]  # fmt: skip
ON_A_PARTITION: list[op.Operation[Any]] = [
    op.Receipts(P),
    create_op(SID), op.Lease(P, DISK, "lease-1", 1), op.LeaseHeld(P, DISK, "lease-1"), op.Queues(P), op.DeadLetters(P),
    op.QueuePage(P, DISK),
    op.SweepStep(P, 10_000, 0, 0), op.OverdueIntents(P), op.OutboxRead(P), op.OutboxDone(P, ()), op.HoldIdle(P, 1),
    op.ListWheel(P), op.ScanSessions(P), op.Sight(P, "v", "run", (), 1, 1, 1), op.Counters(P), op.Count(P, {}),
]  # fmt: skip
ON_WHAT_IS_COMMON: list[op.Operation[Any]] = [
    op.Emit(EventName.ORPHAN_FOUND),
    op.Reserve("ana", SID, 1), op.Confirm("ana", SID), op.GiveBack("ana", SID),
    op.BookPage("ana"), op.ReserveQuota("ana", SID, RID, 1), op.Facts(), op.Meta(),
    op.SetMeta({}), op.RaiseMark("v", 0, 0), op.Table("n"), op.TablePut("n", "a", "b"), op.TableDrop("n", "a"),
    op.TakeLease("n", "a", 1), op.DropLease("n", "a"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("operation", "locks"),
    [(one, {"partition", "stripe"}) for one in ON_A_SESSION]
    + [(one, {"partition"}) for one in ON_A_PARTITION]
    + [(one, {"common"}) for one in ON_WHAT_IS_COMMON]
    + [(op.OpenSession(SID, (MAC,)), {"stripe"})],
    ids=lambda given: type(given).__name__ if isinstance(given, op.Operation) else "",
)
def test_every_step_takes_its_locks_before_it_reads_the_clock(operation: op.Operation[Any], locks: set[str]) -> None:
    """Races show a missing lock only now and then; the clock, asked within the step, sees it every time."""
    seen: list[set[str]] = []

    def clock() -> int:
        state = store._state
        held = {"partition": state.partition(P).lock, "stripe": state.stripe(SID), "common": state.common}
        seen.append({name for name, lock in held.items() if lock.locked()})
        return 10**12

    store = MemoryStore(clock=clock)
    if operation not in ON_A_PARTITION:
        store.execute(create_op(SID))
    seen.clear()
    store.execute(operation)
    assert seen == [locks]


def test_every_operation_is_one_of_these() -> None:
    listed = {type(one) for one in (*ON_A_SESSION, *ON_A_PARTITION, *ON_WHAT_IS_COMMON)}
    # FindAlias: one look into one dict; Events, EventsBefore: under the log's own lock
    assert set(STEPS) - listed == {op.OpenSession, op.FindAlias, op.Events, op.EventsBefore}


def test_a_bare_session_takes_at_most_400_bytes() -> None:
    store = MemoryStore()
    number = 5_000
    for _ in range(CAP // 2):  # events are kept for so many, however many sessions there are
        sid = new_session_id(P)
        store.execute_many([create_op(sid), op.EndSession(sid, EndReason.LOGOUT)])
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(number):
        store.execute(create_op(new_session_id(P), mac=bytes(bytearray(16)), family=4, fingerprint=b"abc"))
    store.advance(1000)
    for sid in list(store._state.sessions):
        store.execute(op.OpenSession(sid, (bytes(16),)))  # its last activity is a number of its own from here on
    gc.collect()
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert used / number <= LARGEST_SESSION


async def test_nudges_reach_a_loop_and_end_with_the_store() -> None:
    inner = MemoryStore()
    store = AsyncMemoryStore(inner)
    sid = new_session_id(P)
    await store.execute(create_op(sid))
    await store.execute(op.Register(sid, new_resource_id(), "f", DISK, 1, live=True))
    heard = store.nudges([DISK], poll=30.0)
    first = asyncio.ensure_future(anext(heard))
    await asyncio.sleep(0)
    assert (await store.execute(op.EndSession(sid, EndReason.LOGOUT))).done
    assert await asyncio.wait_for(first, 60) == DISK
    await store.close()
    assert [location async for location in heard] == []
    short = store.nudges([DISK], poll=0.01)
    assert await anext(short) == ""
    await short.aclose()  # type: ignore[attr-defined]


def test_a_listener_that_was_dropped_costs_nothing() -> None:
    store = MemoryStore()
    for _ in range(100):
        store.nudges([DISK], poll=1.0)
    gc.collect()
    assert len(store._state.nudges._listeners) == 0


def test_receipts_are_dropped_by_whoever_comes_by() -> None:
    store = MemoryStore()
    store.freeze(10**12)
    sid, rid = new_session_id(P), new_resource_id()
    store.execute(create_op(sid))
    store.execute(op.Register(sid, rid, "f", DISK, 1, live=True))
    store.execute(op.EndSession(sid, EndReason.LOGOUT))
    store.execute(op.Settle(sid, DISK, (op.Attempt(rid, Outcome.DELETED),), retention=1000))
    store.advance(999)
    store.execute(op.PeekSession(new_session_id(P)))
    assert set(store._state.partition(P).graves) == {sid}
    store.advance(1)
    store.execute(op.PeekSession(new_session_id(P)))
    assert not store._state.partition(P).graves
