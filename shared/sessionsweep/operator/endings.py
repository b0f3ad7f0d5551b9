"""Ends in bulk, at an operator's word: every session, or all idle for so long. Resumable; repeating is harmless."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sessionsweep.deployment import Core, ms, partitions
from sessionsweep.engine.pace import Pace
from sessionsweep.errors import HeldError, StoreError
from sessionsweep.model.holds import IDLE
from sessionsweep.model.session import SessionRecord
from sessionsweep.model.states import EndReason
from sessionsweep.operator import holds
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.outbox import drain
from sessionsweep.store.protocol import Store

STEP = 25  # sessions a round trip, as a sweep: a request that waits behind one waits little
Progress = Callable[[int], None]
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class BulkEnd:
    """How many were ended, and what they owe now."""

    ended: int
    owed: int


def end_all(core: Core, store: Store, progress: Progress = lambda _: None) -> BulkEnd:
    """Ends every session of the deployment that was created before the call.

    It walks all keys, not the wheel: the server's SCAN returns whatever is there throughout, also a session that lost
    writes left in no slot.

    Raises:
        StoreError: it stopped half-way; call again.
    """
    began = store.execute(op.Facts()).now
    return _end(
        core,
        store,
        lambda record: record.created <= began,
        lambda session_id: op.EndSession(session_id, EndReason.ADMIN),
        progress,
    )


def end_idle(core: Core, store: Store, idle_for: float, progress: Progress = lambda _: None) -> BulkEnd:
    """Ends the sessions that nobody has touched for `idle_for` seconds, each re-checked in the step that ends it.

    Raises:
        HeldError: idle ends are held: touches may have been lost.
        StoreError: it stopped half-way; call again.
    """
    refuse_while_held(store)
    idle = ms(idle_for)
    now = store.execute(op.Facts()).now
    return _end(
        core,
        store,
        lambda record: is_idle(record, now, idle),
        # Listing only proposes: a touch between it and this step leaves the session alive.
        lambda session_id: op.EndSession(session_id, EndReason.IDLE, True, core.grace, core.hold, idle),
        progress,
    )


def refuse_while_held(store: Store) -> None:
    """Raises HeldError while idle ends are held."""
    standing, now = run(holds.listed(), store)
    for hold in standing:
        if hold.scope == IDLE:
            raise HeldError(
                f"Idle ends are held for another {(hold.until - now) / 1000:.0f} s: {hold.text}. To go on now: "
                "sessionsweep holds lift idle"
            )


def is_idle(record: SessionRecord, now: int, idle: int) -> bool:
    """Whether nobody has touched it for `idle` ms, and no job keeps it alive."""
    return now >= max(record.last_activity + idle, record.keep_alive)


def _end(
    core: Core,
    store: Store,
    chosen: Callable[[SessionRecord], bool],
    ending: Callable[[str], op.EndSession],
    progress: Progress,
) -> BulkEnd:
    pace, ended, owed = Pace(float("inf"), effort=0.8), 0, 0
    for partition in run(partitions(core), store):
        cursor = 0
        while True:
            cursor, ids = store.execute(op.ScanSessions(partition, cursor))
            for start in range(0, len(ids), STEP):
                part = ids[start : start + STEP]
                peeked = _all(store, [op.PeekSession(session_id) for session_id in part])
                records = [p.record for p in peeked if p.record is not None]
                due = [record.session_id for record in records if chosen(record)]
                for done in _all(store, [ending(session_id) for session_id in due]):
                    ended += done.done
                    owed += done.owed
                progress(ended)
                if due:
                    pace.next()
            while run(drain(partition), store):
                pass
            if cursor == 0:
                break
    return BulkEnd(ended, owed)


def _all(store: Store, operations: Sequence[op.Operation[R]]) -> list[R]:
    replies: list[R] = []
    for answer in store.execute_many(operations):
        if isinstance(answer, StoreError):
            raise answer
        replies.append(answer)
    return replies
