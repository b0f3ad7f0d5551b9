"""The end of a schedule: all is mended, operators do what the holds ask for, workers run, and nothing may be left."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sessionsweep.errors import SessionSweepError
from sessionsweep.model import books
from sessionsweep.model.holds import Hold
from sessionsweep.operator import dead_letters, holds, volumes
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run

if TYPE_CHECKING:
    from simulation.schedule import Schedule

ROUNDS = (2_000, 14_000, 125_000, 3_000, 35_000, 70_000, *[40_000] * 14)  # ms that pass before each


def settle(schedule: Schedule) -> None:
    """Runs passes until nothing is left, then judges. What is wrong goes to the witness."""
    schedule.disks.repair()
    left: list[str] = []
    for number, milliseconds in enumerate(ROUNDS):
        schedule.clock.advance(milliseconds)
        _obey_holds(schedule)
        _retry(schedule)
        _pass(schedule, number)
        if schedule.witness.wrong:
            return
        left = _left(schedule)
        if not left:
            break
    else:
        schedule.witness.accuse(f"not settled: {'; '.join(left)}")
    _judge(schedule)


def _pass(schedule: Schedule, number: int) -> None:
    one, _, other, _ = schedule.deployment.workers
    for worker in (one, other):
        due = ["sweep", "reclaim"] if worker is one else ["reclaim"]
        due += ["orphans"] if schedule.disks.files() or number % 4 == 2 else []
        due += ["upkeep"] if number % 4 == 2 else []
        for name in due:
            schedule.destruction.orphans_of_pass.clear()
            try:
                worker.passes[name]()
            except SessionSweepError as problem:
                schedule.witness.accuse(f"a pass failed while nothing was wrong: {problem!r}")
    schedule.destruction.over_the_cap.clear()


def _obey_holds(schedule: Schedule) -> None:
    """An operator's word for each hold that waits for one."""
    one, _, other, _ = schedule.deployment.workers
    for scope, row in schedule.store.execute(op.Table("holds")).items():
        hold = Hold.read(scope, row)
        schedule.report.happened[f"hold: {hold.reason}"] += 1
        if hold.until or scope.startswith("mount:"):
            continue  # goes by itself
        if hold.reason == "rolled-back":
            schedule.destruction.rolled_back_on.clear()
        if hold.reason == "too-many-orphans":
            schedule.destruction.over_the_cap.add(scope.removeprefix("orphans:"))
        for worker in (one, other):
            try:
                if hold.reason == "foreign-deployment":
                    schedule.destruction.emptied = False
                    for spec in worker.core.settings.volumes:
                        run(volumes.adopt(worker.core, spec.name), schedule.store)
                else:
                    run(holds.lift(worker.core, scope), schedule.store)
            except SessionSweepError:
                continue  # lifted on the other node


def _retry(schedule: Schedule) -> None:
    core = schedule.deployment.workers[0].core
    for letter in run(dead_letters.listed(core), schedule.store):
        schedule.report.happened["dead letters"] += 1
        run(dead_letters.retry(letter), schedule.store)


def _left(schedule: Schedule) -> list[str]:
    left = [f"file {path.relative_to(schedule.disks.folder)}" for path in schedule.disks.files()]
    for partition in schedule.memory._state.partitions.values():
        left += [
            f"{partition.counters[name]} {name} in partition {partition.name}"
            for name in (books.ACTIVE, books.OWED, books.DEAD, books.STREAMS)
            if partition.counters[name]
        ]
    left += [f"live session {sid}" for sid in schedule.witness.seen]
    return left


def _judge(schedule: Schedule) -> None:
    """What can be seen from outside once all is over."""
    accuse, state, known = schedule.witness.accuse, schedule.memory._state, schedule.known
    for path in schedule.disks.harmed():
        accuse(f"{path} is not ours, and was touched")
    kept = schedule.disks.kept()
    for name, content in known.promoted.items():
        if kept.get(name) != content:
            accuse(f"{name} was promoted, and its bytes are not what they were")
    for name in kept.keys() - known.maybe_promoted:
        accuse(f"{name} was kept, and nobody promoted it")
    for partition in state.partitions.values():
        if partition.intents.times or partition.holdings or partition.dead.times:
            accuse(f"partition {partition.name} still knows what is no more: {partition.holdings.keys()}")
        if partition.outbox:
            accuse(f"partition {partition.name} still owes places: {list(partition.outbox)}")
    stale = Counter({user: len(places) for user, places in state.books.items()})
    schedule.report.happened["stale places"] += stale.total()
    schedule.report.happened["stale shares"] += sum(map(len, state.quotas.values()))
