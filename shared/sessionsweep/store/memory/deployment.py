"""What belongs to the whole deployment: facts, tables, leases by name; and the partitions' counters."""

from __future__ import annotations

from collections.abc import Mapping

from sessionsweep.model.events import DEPLOYMENT, hold_lifted, hold_set
from sessionsweep.model.holds import TABLE as HOLDS
from sessionsweep.model.holds import mark_of
from sessionsweep.store.memory.state import Partition, State
from sessionsweep.store.memory.steps import Step, common_step, partition_step
from sessionsweep.store.operations import (
    Count,
    Counters,
    DropLease,
    Facts,
    Meta,
    RaiseMark,
    ServerFacts,
    SetMeta,
    Table,
    TableDrop,
    TablePut,
    TakeLease,
)


@common_step
def facts(state: State, operation: Facts, now: int) -> ServerFacts:
    """This store never drops anything by itself, hence the policy."""
    deployment = state.meta.get("deployment", "")
    return ServerFacts(state.run_id, now, version="memory", policy="noeviction", deployment=deployment)


@common_step
def meta(state: State, operation: Meta, now: int) -> Mapping[str, str]:
    """A copy."""
    return dict(state.meta)


@common_step
def set_meta(state: State, operation: SetMeta, now: int) -> bool:
    """Whether any field changed hands."""
    changed = False
    for name, value in operation.fields.items():
        was = state.meta.get(name)
        if operation.only_new and was is not None:
            continue
        if operation.raise_only and not operation.only_new and not _rises(name, float(value), float(was or -1), now):
            continue
        state.meta[name] = value
        changed = True
    return changed


def _rises(name: str, value: float, was: float, now: int) -> bool:
    """A mark never goes back, unless it lies ahead of the clock; `high_water` only by an operator's word."""
    return value > was or (name != "high_water" and was > now + 60_000 and value != was)


@common_step
def raise_mark(state: State, operation: RaiseMark, now: int) -> int:
    """Compares and raises in one step."""
    marks = state.tables.setdefault("marks", {})
    mark = mark_of(marks, state.meta, operation.volume_id)
    if operation.seen - mark > operation.most or operation.run_id not in ("", state.run_id):
        return 0
    if now > mark:
        marks[operation.volume_id] = str(now)
    return now


@common_step
def table(state: State, operation: Table, now: int) -> Mapping[str, str]:
    """A copy."""
    return dict(state.tables.get(operation.name, {}))


@common_step
def table_put(state: State, operation: TablePut, now: int) -> bool:
    """Whether the row was new."""
    rows = state.tables.setdefault(operation.name, {})
    new = operation.row not in rows
    if operation.name == HOLDS and rows.get(operation.row) != operation.value and (new or not operation.only_new):
        state.partition(DEPLOYMENT).events.add(now, hold_set(operation.row, operation.value))
    if new or not operation.only_new:
        rows[operation.row] = operation.value
    return new


@common_step
def table_drop(state: State, operation: TableDrop, now: int) -> bool:
    """Whether the row was there."""
    rows = state.tables.get(operation.name, {})
    if operation.row not in rows or operation.only not in (None, rows[operation.row]):
        return False
    del rows[operation.row]
    if operation.name == HOLDS:
        state.partition(DEPLOYMENT).events.add(now, hold_lifted(operation.row))
    return True


@common_step
def take_lease(state: State, operation: TakeLease, now: int) -> bool:
    """Takes a free or lapsed lease, or renews one's own."""
    holder, until = state.leases.get(operation.name, ("", 0))
    if until > now and holder != operation.token:
        return False
    state.leases[operation.name] = (operation.token, now + operation.duration)
    return True


@common_step
def drop_lease(state: State, operation: DropLease, now: int) -> bool:
    """Gives up one's own lease."""
    holder, until = state.leases.get(operation.name, ("", 0))
    if until <= now or holder != operation.token:
        return False
    del state.leases[operation.name]
    return True


@partition_step
def counters(state: State, partition: Partition, operation: Counters, now: int) -> Mapping[str, int]:
    """A copy of the books."""
    return dict(partition.counters)


@partition_step
def count(state: State, partition: Partition, operation: Count, now: int) -> int:
    """How many counters were added to."""
    partition.counters.update(operation.amounts)
    return len(operation.amounts)


STEPS: dict[type, Step] = {
    Facts: facts,
    Meta: meta,
    SetMeta: set_meta,
    RaiseMark: raise_mark,
    Table: table,
    TablePut: table_put,
    TableDrop: table_drop,
    TakeLease: take_lease,
    DropLease: drop_lease,
    Counters: counters,
    Count: count,
}
