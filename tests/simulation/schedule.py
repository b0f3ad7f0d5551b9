"""One schedule: a seed decides who runs when, what is lost, what breaks, and when time passes; then all must settle."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sessionsweep.errors import SessionSweepError
from sessionsweep.model.ids import random_text
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run as run_flow
from sessionsweep.volumes.volume import Volume
from simulation import deployment as deployments
from simulation.baton import Actor, Fate, SteppedStore
from simulation.chance import Clock, seeded
from simulation.clients import Client, Known
from simulation.deployment import VARIANTS, Deployment, Worker
from simulation.destruction import Destruction
from simulation.disks import Disks
from simulation.settling import settle
from simulation.witness import Witness

MOST_ACTORS = 6  # at a time
KEPT_STEPS = 60  # of a failed schedule, for its report
ROLLED_BACK = 30_000  # ms, as chance.SMALL sets it

#: What may go wrong in a schedule beside crashes and pauses, which always may; and how often each is drawn.
PROFILES: dict[tuple[str, ...], int] = {
    (): 2,
    ("lossy",): 4,
    ("failover",): 5,
    ("lossy", "failover"): 3,
    ("disks",): 4,
    ("disks", "lossy"): 2,
    ("emptied",): 2,
    ("clock",): 1,
    ("failover", "disks"): 2,
    ("failover", "clock", "lossy"): 1,
}


@dataclass
class Report:
    """What came of a schedule."""

    seed: str
    wrong: list[str] = field(default_factory=list)
    steps: int = 0  # of the scheduler
    words: int = 0  # with the store
    trace: str = ""  # a digest: the same seed makes the same
    happened: Counter[str] = field(default_factory=Counter)
    last: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join([f"schedule {self.seed}: {'; '.join(self.wrong)}", "its last steps:", *self.last])


class Schedule:
    """Built, run and cleared away by `run`."""

    def __init__(self, seed: str, folder: Path) -> None:
        self.report = Report(seed)
        self.clock = Clock()
        self._folder = folder
        self._trace = hashlib.blake2b(digest_size=8)
        self._last: deque[tuple[Any, ...]] = deque(maxlen=KEPT_STEPS)
        self.actors: list[Actor] = []
        self.graveyard: list[Actor] = []
        self._numbers = 0
        self._stores = 0  # so often it was replaced

    def run(self) -> Report:
        """The whole schedule."""
        with seeded(self.report.seed, self.clock) as self.rng:
            self._build()
            with self.destruction.watching():
                try:
                    self._go()
                finally:
                    for actor in self.actors:
                        actor.kill()
                    for actor in (*self.actors, *self.graveyard):
                        actor.bury()
        report = self.report
        report.wrong = self.witness.wrong + self.known.wrong
        report.trace = self._trace.hexdigest()
        if report.wrong:
            report.last = [" ".join(map(str, line)) for line in self._last]
        report.happened["made again"] += self.witness.made_again
        report.happened["deleted"] += self.destruction.deleted
        report.happened["orphans"] += self.destruction.orphans
        report.happened["requests"] += self.known.did
        report.happened["promoted"] += len(self.known.promoted)
        report.happened["ended"] += len(self.witness.deaths)
        return report

    def _build(self) -> None:
        rng = self.rng
        self.faults = rng.choices([*PROFILES], [*PROFILES.values()])[0]
        self.memory = deployments.new_store(self.clock, random_text(40))
        self.store = SteppedStore(self._perform, self._moment, self._accuse)
        self.disks = Disks(self._folder)
        self.deployment = Deployment(self._folder, rng.randrange(len(VARIANTS)), self.store, self.clock)
        self.witness = Witness(self.memory, self.deployment.settings)
        self.destruction = Destruction(self.witness, self.disks, self.clock, self.store)
        self.known = Known()
        self.snapshots: list[Any] = []
        for worker in self.deployment.workers[::2]:  # one of each node
            run_flow(worker.core.mounts.mount(), self.store)
        self.disks.plant()

    def _go(self) -> None:
        steps = self.rng.choice((40, 80, 120, 240))
        while self.report.steps < steps and not self.witness.wrong:
            self._once()
        if not self.witness.wrong and self.rng.random() < 0.5:  # the others are never heard of again
            while self.actors and not self.witness.wrong:
                self._step(self.rng.choice(self.actors), Fate.DONE)
        for actor in self.actors[:]:
            self._kill(actor)
        if not self.witness.wrong:
            settle(self)

    # the scheduler

    def _once(self) -> None:
        rng = self.rng
        self.report.steps += 1
        chance = rng.random()
        if not self.actors or (chance < 0.14 and len(self.actors) < MOST_ACTORS):
            self._start()
        elif chance < 0.80:
            # most of the time one goes on for a while: the rarest interleavings need others to stand still
            running = [actor for actor in self.actors if actor.stopped_until <= self.clock.now]
            if not running:
                self._pass_time()
                return
            actor = running[-1] if rng.random() < 0.4 else rng.choice(running)
            for _ in range(rng.choice((1, 1, 2, 4, 8))):
                if actor in self.actors and not self.witness.wrong:
                    self._step(actor, self._fate())
        elif chance < 0.92:
            self._pass_time()
        elif chance < 0.935:
            rng.choice(self.actors).stopped_until = self.clock.now + rng.randint(500, 15_000)
        elif chance < 0.95:
            writing = [actor for actor in self.actors if actor.files]
            self._kill(rng.choice(writing if writing and rng.random() < 0.5 else self.actors))
        else:
            self._fault()

    def _start(self) -> None:
        rng = self.rng
        self._numbers += 1
        busy = [actor.process for actor in self.actors]
        free = [worker for worker in self.deployment.workers if worker not in busy]
        if free and rng.random() < 0.42:
            worker = rng.choice(free)
            name = rng.choices(("upkeep", "sweep", "reclaim", "orphans"), (2, 4, 6, 4))[0]
            actor = Actor(f"{name} {self._numbers} on {worker.core.settings.node}", _pass(worker, name), worker)
        else:
            web = rng.choice(self.deployment.webs)
            client = Client(self.known, web, self.store, random.Random(rng.random()), self._folder)
            actor = Actor(f"client {self._numbers} on {web.settings.node}", client)
        self.actors.append(actor)
        self._switch(actor, None)

    def _step(self, actor: Actor, fate: Fate) -> None:
        self._trace.update(f"{actor.name} {type(actor.operation).__name__} {fate.value} {self.clock.now}\n".encode())
        self._last.append((self.clock.now, actor.name, fate.value, actor.operation))
        self._switch(actor, fate)

    def _switch(self, actor: Actor, fate: Fate | None) -> None:
        actor.switch(fate) if fate is not None else actor.switch()
        if actor.dead:
            self.actors.remove(actor)
            problem = actor.problem
            if problem is not None and not isinstance(problem, SessionSweepError):
                self.witness.accuse(f"{actor.name} failed with {problem!r}")

    def _fate(self) -> Fate:
        if "lossy" in self.faults and self.rng.random() < 0.06:
            self.report.happened["lost words"] += 1
            return self.rng.choice((Fate.REFUSED, Fate.REQUEST_LOST, Fate.REPLY_LOST, Fate.REPLY_LOST))
        return Fate.DONE

    def _perform(self, operation: op.Operation[Any], actor: Actor | None) -> Any:
        reply = self.memory.execute(operation)
        self.report.words += 1
        now = self.clock.now
        if actor is not None:
            if actor.repeats and actor.looked:
                actor.looked.pop()  # one word, said twice
            actor.looked.append((now, self.memory.run_id))
            if isinstance(operation, op.Lease) and reply.entries:
                actor.leases[operation.location] = (now + operation.duration, self.memory.run_id)
        if hasattr(self, "witness"):
            self.witness.look(operation, reply, now, repeated=actor is not None and actor.repeats)
        return reply

    def _moment(self) -> tuple[int, int, int]:
        """Differs when anything was said, time passed, or the store was replaced in between."""
        return self.report.words, self.clock.now, self._stores

    def _accuse(self, what: str) -> None:
        self.witness.accuse(what)

    def _pass_time(self) -> None:
        rng = self.rng
        kind = rng.choices((1, 2, 3, 4), (40, 30, 20, 4))[0]
        span = {1: (1, 300), 2: (500, 2500), 3: (3000, 12_000), 4: (20_000, 70_000)}[kind]
        self.clock.advance(rng.randint(*span))

    def _kill(self, actor: Actor) -> None:
        self.report.happened["killed"] += 1
        self._last.append((self.clock.now, actor.name, "killed before", actor.operation))
        actor.kill()
        self.actors.remove(actor)
        self.graveyard.append(actor)
        if isinstance(actor.process, Worker):
            number = self.deployment.workers.index(actor.process)
            self.deployment.workers[number] = self.deployment.worker(actor.process.core.settings.node)

    # faults

    def _fault(self) -> None:
        if not self.faults:
            return
        getattr(self, f"_{self.rng.choice(self.faults)}")()

    def _note(self, what: str) -> None:
        self.report.happened[what] += 1
        self._trace.update(what.encode())
        self._last.append((self.clock.now, "fault:", what))

    def _lossy(self) -> None:
        """Words are lost one by one; see `_fate`."""

    def _failover(self) -> None:
        """A copy of the store is taken, or a copy that was taken becomes the store: what came after is lost."""
        if len(self.snapshots) < 1 or self.rng.random() < 0.5:
            self.snapshots = [*self.snapshots[-1:], deployments.snapshot(self.memory)]
            self._note("snapshot")
            return
        state = self.rng.choice(self.snapshots)
        self._note("failover")
        self._stores += 1
        deployments.restore(self.memory, state, random_text(40))
        self.destruction.rolled_back_on = self._rolled_back()
        self.witness.restored(self.clock.now)

    def _rolled_back(self) -> set[str]:
        """The volumes on which nothing may go before an operator's word; empty where nobody can tell."""
        if self.disks.faulty:
            return set()
        marks = self.memory._state.tables.get("marks", {})
        floor = int(self.memory._state.meta.get("high_water", "0"))
        seen = {disk.volume_id: Volume.open(disk.path, name).high_water() or 0 for name, disk in self.disks.all.items()}
        return {volume for volume, at in seen.items() if at - int(marks.get(volume, floor)) > ROLLED_BACK}

    def _emptied(self) -> None:
        """The store is empty, or another one."""
        if self.destruction.emptied or self.disks.faulty or self.rng.random() < 0.6:
            return
        self._note("emptied")
        self._stores += 1
        run = self.memory.run_id if self.rng.random() < 0.5 else random_text(40)
        deployments.empty(self.memory, self.clock, run)
        self.destruction.emptied = True
        self.witness.restored(self.clock.now, emptied=True)

    def _disks(self) -> None:
        """A disk is unmounted, swapped with another, repaired; a file can't be deleted."""
        rng, disks = self.rng, self.disks
        what = rng.choice(("unmount", "swap", "repair", "block", "block"))
        if what == "repair":
            disks.repair()
        elif what == "block":
            if not self.known.files:
                return
            whose = rng.choice(self.known.files[-8:])
            if not any(disks.block(disk, *whose) for disk in disks.all.values()):
                return
        elif self.destruction.emptied:
            return  # a store that knows no volumes makes new ones of empty folders: docs/operations.md
        elif what == "unmount":
            self.destruction.rolled_back_on = set()  # who can't see the volume that knows can't tell
            disks.unmount(rng.choice([*disks.all]))
        else:
            self.destruction.rolled_back_on = set()
            disks.swap(*rng.sample([*disks.all], 2))
        self._note(what)

    def _clock(self) -> None:
        """The server's clock is set."""
        if self.rng.random() < 0.5:
            by = self.rng.choice((-20_000, -3_000, 3_000, 8_000, 40_000))
            self.clock.jump(by)
            self.witness.clock_set(by)
            self.destruction.clock_set = True
            self._note("clock set")


def _pass(worker: Worker, name: str) -> Any:
    def body(_: Actor) -> None:
        worker.passes[name]()

    return body


def run(seed: str, folder: Path) -> Report:
    """Runs the schedule of that seed in `folder`, which it makes and clears away."""
    try:
        return Schedule(seed, folder).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
