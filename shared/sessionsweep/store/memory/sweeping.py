"""Walking the wheel: ending what is due, overdue intents, held idle ends, listing."""

from __future__ import annotations

from sessionsweep.model.events import EventName
from sessionsweep.model.states import EndReason, ResourceState
from sessionsweep.store.memory.ending import end, held_until, notice_run, reason_due
from sessionsweep.store.memory.resources import owe
from sessionsweep.store.memory.state import Partition, State
from sessionsweep.store.memory.steps import Step, partition_step
from sessionsweep.store.operations import (
    HoldIdle,
    ListWheel,
    OutboxDone,
    OutboxEntry,
    OutboxRead,
    OverdueIntents,
    SweepStep,
    Swept,
)

SLOTS_A_PAGE = 200


@partition_step
def sweep(state: State, partition: Partition, operation: SweepStep, now: int) -> Swept:
    """One step over the head of the wheel.

    Whether a session is due is read under its stripe, right where it is ended: no touch comes between.
    """
    horizon = min(now, operation.bound) if operation.bound else now
    slot = partition.wheel.head()
    if slot is None or slot.end > horizon:
        return Swept(0, 0, 0, 0, False, now)
    partition.forget(now)
    ended = {EndReason.IDLE: 0, EndReason.EXPIRED: 0}
    refiled = stale = owed = 0
    held: int | None = None  # asked once, and only when somebody is idle
    would: list[str] = []
    for _ in range(min(operation.limit, len(slot.ids))):
        session_id = slot.ids.popleft()
        with state.stripe(session_id):
            session = state.sessions.get(session_id)
            if session is None or session.filed != slot.end:
                stale += 1
                continue
            reason = reason_due(session, now)
            if reason is EndReason.IDLE:
                if held is None:
                    held = held_until(state, partition, now, operation.hold)
                if held:
                    reason = None
            if reason is not None and not operation.observe:
                owed += end(state, partition, session_id, session, now, reason, operation.grace)[0]
                ended[reason] += 1
                continue
            due = session.due()
            if due <= now:
                due = max(now + operation.width, held or 0)
                if session.absolute_end() > now:
                    due = min(due, session.absolute_end())
            if reason is not None:
                would.append(f"{session_id} {reason}")
            session.filed = partition.wheel.file(session_id, due, operation.width)
            refiled += 1
    head = partition.wheel.head()
    return Swept(
        ended[EndReason.IDLE], ended[EndReason.EXPIRED], refiled, stale,
        head is not None and head.end <= horizon, now, owed, held or 0, tuple(would),
    )  # fmt: skip


@partition_step
def overdue_intents(state: State, partition: Partition, operation: OverdueIntents, now: int) -> int:
    """How many overdue intents were looked at; those of live sessions are owed now, or live if begun in another run."""
    horizon = min(now, operation.bound) if operation.bound else now
    looked = 0
    while looked < operation.limit and (member := partition.intents.take_until(horizon)) is not None:
        looked += 1
        since = notice_run(state, partition, now, operation.hold)
        session_id, resource_id = member
        holdings = partition.holdings.get(session_id)
        resource = holdings.records.get(resource_id) if holdings is not None else None
        with state.stripe(session_id):
            session = state.sessions.get(session_id)
            if session is None or resource is None or resource.state is not ResourceState.INTENT:
                continue
            told = {"s": session_id, "x": resource_id}
            if resource.created <= since:
                partition.events.add(now, {"e": EventName.INTENT_ASSUMED_LIVE, **told})
                resource.state, resource.till = ResourceState.LIVE, 0
            else:
                owe(state, partition, session_id, session.own_more(), resource_id, resource, now)
                partition.events.add(now, {"e": EventName.INTENT_OVERDUE, **told})
    return looked


@partition_step
def outbox_read(state: State, partition: Partition, operation: OutboxRead, now: int) -> tuple[OutboxEntry, ...]:
    """The oldest entries; they stay until they are reported as delivered."""
    return tuple(OutboxEntry.read(raw) for raw in list(partition.outbox)[: operation.limit])


@partition_step
def outbox_done(state: State, partition: Partition, operation: OutboxDone, now: int) -> int:
    """Removes each entry once."""
    removed = 0
    for raw in operation.entries:
        if raw in partition.outbox:
            partition.outbox.remove(raw)
            removed += 1
    return removed


@partition_step
def hold_idle(state: State, partition: Partition, operation: HoldIdle, now: int) -> int:
    """Stops idle ends for a while, or lets them go on."""
    notice_run(state, partition, now, operation.duration)
    partition.held_until = max(partition.held_until, now + operation.duration) if operation.duration else 0
    return partition.held_until


@partition_step
def list_wheel(state: State, partition: Partition, operation: ListWheel, now: int) -> tuple[tuple[str, ...], int, int]:
    """A page of filed ids, over at most 200 slots, so that a page of a sparse wheel stays short."""
    slots = partition.wheel.slots
    ends = sorted(name for name, slot in slots.items() if name >= operation.slot and slot.ids)
    ids: list[str] = []
    for name in ends[:SLOTS_A_PAGE]:
        filed = list(slots[name].ids)
        offset = _place(filed, operation.offset, operation.after) if name == operation.slot else 0
        want = operation.limit - len(ids)
        found = filed[offset : offset + want]
        ids += found
        if len(found) == want:
            return tuple(ids), name, offset + want
    if len(ends) > SLOTS_A_PAGE:
        return tuple(ids), ends[SLOTS_A_PAGE - 1] + 1, 0
    return tuple(ids), 0, 0


def _place(filed: list[str], offset: int, after: str) -> int:
    """The place behind `after`, which was `offset`; a sweep may have taken ids from the head since."""
    if not after or filed[offset - 1 : offset] == [after]:
        return offset
    return next((n + 1 for n in reversed(range(min(offset, len(filed)))) if filed[n] == after), 0)


STEPS: dict[type, Step] = {
    SweepStep: sweep,
    OverdueIntents: overdue_intents,
    OutboxRead: outbox_read,
    OutboxDone: outbox_done,
    HoldIdle: hold_idle,
    ListWheel: list_wheel,
}
