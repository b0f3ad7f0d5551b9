"""All that a monitor asks for at each look; the cost doesn't grow with the number of sessions."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sessionsweep.deployment import Core, partitions
from sessionsweep.engine.server import eviction_problem
from sessionsweep.errors import RecordUnreadableError, StoreError
from sessionsweep.model.books import differences
from sessionsweep.model.holds import Hold
from sessionsweep.model.rows import decimal, json_object, whole
from sessionsweep.operator import holds, memory, nodes, persistence, places
from sessionsweep.operator.memory import Memory
from sessionsweep.operator.nodes import Node
from sessionsweep.operator.places import Place
from sessionsweep.sessions.books import sum_up
from sessionsweep.sessions.view import Stats
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.protocol import Store

R = TypeVar("R")
log = logging.getLogger(__name__)

STATES = ("running", "done", "failed")
_LAST = re.compile(r"last:sessionsweep\.([a-z_]{1,40})(?::([0-9a-z]{16}))?\Z")  # rows of `passes`


@dataclass(frozen=True, slots=True)
class Pass:
    """The last run of a task (on one volume, or on all: `volume_id` is empty): how long ago (s), `running` (it goes on
    in another message), `done` or `failed`, and its counts, bytes and seconds."""

    task: str
    volume_id: str
    seconds_ago: float
    state: str
    result: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the store tells of the deployment. `books`: the counters of all partitions, by their names in model.books.
    `differences`: the partitions whose books don't balance, and by how much.
    `sweep_late_seconds`: since when the wheel's first slot could have been swept. `run_seconds`: since when workers
    know this run of the server: for so long nothing can have been late. None: never."""

    books: Mapping[str, int]
    differences: Mapping[str, int]
    version: str
    policy: str
    evicts: bool  # the server may drop keys by itself
    sweep_late_seconds: float
    last_sweep_seconds_ago: float | None
    beat_seconds_ago: float | None
    run_seconds: float | None
    memory: Memory | None
    unwritten: tuple[str, ...] | None  # what the server could not write to its disk; None: it doesn't say
    now: int  # ms, the store's
    places: Sequence[Place] | None  # None: something there can't be read; see the log
    nodes: Sequence[Node]
    holds: Sequence[Hold]
    alarms: Sequence[Hold]
    passes: Sequence[Pass] = field(default=())

    @property
    def stats(self) -> Stats:
        """The books, summed up."""
        return sum_up(self.books, self.imbalance)

    @property
    def imbalance(self) -> int:
        """Over all partitions, unsigned; see model.books."""
        return sum(map(abs, self.differences.values()))


def look(core: Core, store: Store) -> Vitals:
    """Reads it. Writes nothing.

    Raises:
        StoreError: the store doesn't answer.
    """
    facts, meta = store.execute(op.Facts()), store.execute(op.Meta())
    books: Counter[str] = Counter()
    late = 0.0
    known = run(partitions(core), store)
    questions: list[op.Operation[Any]] = []
    for partition in known:
        questions += [op.Counters(partition), op.ListWheel(partition, limit=1)]
    answers = iter(store.execute_many(questions))
    by_partition = {}
    for partition in known:
        counted, filed = _sure(next(answers)), _sure(next(answers))
        by_partition[partition] = counted
        for name, amount in counted.items():
            books[name] += amount
        ids, slot, _ = filed
        if ids:
            late = max(late, (facts.now - slot) / 1000)
    standing, _ = run(holds.listed(), store)
    alarms = [Hold.read(*row) for row in sorted(store.execute(op.Table("alarms")).items())]
    return Vitals(
        books=dict(books),
        differences=differences(by_partition),
        version=facts.version,
        policy=facts.policy,
        evicts=bool(eviction_problem(facts)),
        sweep_late_seconds=late,
        last_sweep_seconds_ago=_ago(meta.get("last_sweep"), facts.now),
        beat_seconds_ago=_ago(meta.get("beat_seen"), facts.now),
        run_seconds=_ago(meta.get("run_since"), facts.now),
        memory=memory.look(core.settings),
        unwritten=persistence.look(core.settings),
        now=facts.now,
        places=_places(core, store),
        nodes=run(nodes.listed(core), store),
        holds=standing,
        alarms=alarms,
        passes=_passes(store.execute(op.Table("passes")), facts.now),
    )


def _places(core: Core, store: Store) -> list[Place] | None:
    """One damaged record must not hide all else from the monitor."""
    try:
        return places.look(core, store)
    except RecordUnreadableError as error:
        log.warning("the volumes' debts can't be told: %s", error)
        return None


def _sure(answer: R | StoreError) -> R:
    if isinstance(answer, StoreError):
        raise answer
    return answer


def _ago(at: str | None, now: int) -> float | None:
    mark = decimal(at)
    return None if mark < 0 else max(0.0, (now - mark) / 1000)


def _passes(rows: Mapping[str, str], now: int) -> tuple[Pass, ...]:
    """Those whose rows can be read; what somebody waits for by its id is left out."""
    found = []
    for row, text in sorted(rows.items()):
        named, about = _LAST.match(row), json_object(text)
        at, state, result = whole(about.get("at")), about.get("state"), about.get("result")
        if named is None or at < 0 or state not in STATES or not isinstance(result, dict):
            continue
        counts = {name: value for name, value in result.items() if isinstance(value, int | float)}
        found.append(Pass(named[1], named[2] or "", max(0.0, (now - at) / 1000), state, counts))
    return tuple(found)
