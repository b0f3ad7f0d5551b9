"""Ends in bulk, at an operator's word: every session, or all idle for so long. Resumable; repeating is harmless."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sessionsweep.deployment import Core, ms, partitions
from sessionsweep.engine.pace import Pace
from sessionsweep.errors import HeldError, OutcomeUnknownError, RecordUnreadableError, StoreError
from sessionsweep.model.holds import IDLE
from sessionsweep.model.session import SessionRecord
from sessionsweep.model.states import EndReason
from sessionsweep.operator import holds
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.outbox import drain
from sessionsweep.store.protocol import Store

STEP = 25  # sessions a round trip, as a sweep: a request that waits behind one waits little
NAMED = 20  # that can't be read and are named; all are counted
SENDS = 5  # of a round trip whose answer is lost; the store itself sends each twice
Progress = Callable[[int], None]


@dataclass
class BulkEnd:
    """How many were ended, and what they owe now. `unreadable` counts records that can't be read (damaged, or of a
    newer release), which are left alone; `unreadable_ids` names at most NAMED of them."""

    ended: int = 0
    owed: int = 0
    unreadable: int = 0
    unreadable_ids: list[str] = field(default_factory=list)

    def pass_over(self, session_id: str) -> None:
        """It can't be read."""
        self.unreadable += 1
        if len(self.unreadable_ids) < NAMED:
            self.unreadable_ids.append(session_id)


def end_all(core: Core, store: Store, progress: Progress = lambda _: None) -> BulkEnd:
    """Ends every session of the deployment that was created before the call.

    It walks all keys, not the wheel: the server's SCAN returns whatever is there throughout, also a session that lost
    writes left in no slot. What can't be read is passed over and told of.

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
    What can't be read is passed over and told of.

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
    pace, result = Pace(float("inf"), effort=0.8), BulkEnd()
    for partition in run(partitions(core), store):
        cursor, passed = 0, set[str]()  # SCAN may name one twice
        while True:
            cursor, ids = store.execute(op.ScanSessions(partition, cursor))
            for start in range(0, len(ids), STEP):
                part = [session_id for session_id in ids[start : start + STEP] if session_id not in passed]
                peeked = _each(store, part, op.PeekSession)
                due = [sid for sid, p in peeked.items() if p is not None and p.record is not None and chosen(p.record)]
                done = _each(store, due, ending)
                for session_id, answer in (peeked | done).items():
                    if answer is None:  # the next run would meet it again, so it must not keep the others from ending
                        passed.add(session_id)
                        result.pass_over(session_id)
                for answer in filter(None, done.values()):
                    result.ended += answer.done
                    result.owed += answer.owed
                progress(result.ended)
                if due:
                    pace.next()
            while run(drain(partition), store):
                pass
            if cursor == 0:
                break
    return result


def _each(store: Store, ids: Sequence[str], asked: Callable[[str], op.Operation[Any]]) -> dict[str, Any]:
    """The answer for each session; None where its record can't be read. A lost answer is asked for again: peeking and
    ending are repeatable.

    Raises:
        StoreError: the store doesn't answer.
    """
    replies: dict[str, Any] = {}
    for send in range(SENDS):
        left = [session_id for session_id in ids if session_id not in replies]
        for session_id, answer in zip(left, store.execute_many([asked(one) for one in left]), strict=True):
            if isinstance(answer, RecordUnreadableError):
                replies[session_id] = None
            elif isinstance(answer, OutcomeUnknownError) and send + 1 < SENDS:
                continue
            elif isinstance(answer, StoreError):
                raise answer
            else:
                replies[session_id] = answer
    return replies
