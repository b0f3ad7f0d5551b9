"""What only the in-memory store promises: its clock, its size, its asynchronous nudges."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc

from driving import DISK, P, create_op

from sessionsweep.model.ids import new_resource_id, new_session_id
from sessionsweep.model.states import EndReason, Outcome
from sessionsweep.store import operations as op
from sessionsweep.store.memory import AsyncMemoryStore, MemoryStore
from sessionsweep.store.memory.store import STEPS

LARGEST_SESSION = 400  # bytes: goal P14


def test_it_carries_out_every_operation() -> None:
    known = {kind for kind in vars(op).values() if isinstance(kind, type) and issubclass(kind, op.Operation)}
    assert set(STEPS) == known - {op.Operation}


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


def test_a_bare_session_takes_at_most_400_bytes() -> None:
    store = MemoryStore()
    number = 5_000
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
    assert await asyncio.wait_for(first, 10) == DISK
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
