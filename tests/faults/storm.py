"""A storm: the seeded course of one schedule over processes, the server, the network, disks and clocks at once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable

import redis

from faults.disks import NAMES, Disks
from faults.servers import FaultyServer
from faults.vandals import Vandal
from faults.world import Actor, Nurseries, World
from support.processes import wait_until
from support.proxy import FaultyProxy

STORM = 1.2  # seconds
BEGUN = 20  # actions before the first fault
DAY = 86_400


class Storm:
    """Web nodes and workers under random traffic, and what befalls them. `done` counts the faults that did something.

    Args:
        losing: the server also loses acknowledged writes.
        disks: the deployment's disks, where they may be unmounted, filled and so on.
    """

    def __init__(
        self,
        seed: str,
        world: World,
        nurseries: Nurseries,
        server: FaultyServer,
        proxy: FaultyProxy,
        *,
        losing: bool = False,
        disks: Disks | None = None,
    ) -> None:
        self.dice = random.Random(f"{seed} storm")
        self.seed, self.world, self.nurseries, self.server, self.proxy = seed, world, nurseries, server, proxy
        self.losing, self.disks = losing, disks
        self.vandal = Vandal(world, seed, mounts=disks is not None)
        # one node's clock, or both, a day off either way
        self.skew = {node: self.dice.choice([0, 0, DAY, -DAY]) for node in "ab"}
        self.actors: list[Actor] = []
        self.stopped: list[Actor] = []
        self.started = 0
        self.done: Counter[str] = Counter()
        self._lasting: list[Callable[[], object]] = []  # what puts lasting faults right again
        self._snapshots: list[int] = []
        self._furthest = 0
        self._clock = threading.Event()  # never set: a wait that the schedule itself asks for

    def faults(self) -> list[Callable[[], bool | None]]:
        """What may happen in this storm; what stands twice happens as often again. False: it did nothing."""
        found: list[Callable[[], bool | None]] = [
            self.kill, self.kill, self.pause, self.pause, self.wake, self.wake, self.crash_server, self.crash_server,
            self.rain, self.rain, self.tear, self.slow, self.forget_scripts, self.fill_server, self.demote,
            self.load_slowly, self.vandalise, self.vandalise,
        ]  # fmt: skip
        if self.server.clock_can_step:
            found += [self.step_clock] * 3
        if self.losing:
            found += [self.cut_tail, self.cut_tail, self.cut_tail, self.roll_back, self.roll_back, self.empty_server]
        if self.disks is not None:
            found += [self.befall_disk] * 5
        return found

    def run(self) -> None:
        """From the first actor to the last one's death."""
        for role, node in (("web", "a"), ("web", "b"), ("worker", "a"), ("worker", "b")):
            self.start(role, node)
        wait_until(lambda: sum(self.world.did().values()) > BEGUN, what="there is traffic")
        faults = self.faults()
        moments = sorted(self.dice.uniform(0.15, STORM) for _ in range(self.dice.randint(4, 9)))
        before = 0.0
        for moment in moments:
            self._clock.wait(moment - before)
            before = moment
            if self._lasting and self.dice.random() < 0.6:
                self._lasting.pop(0)()
            self.remember()
            self.befall(self.dice.choice(faults))
        self._clock.wait(STORM - before)
        self.proxy.behave()
        for mended in self._lasting:
            mended()
        for actor in list(self.actors):
            self.end(actor)
        if self._furthest > self.server.offset:
            self.server.step(self._furthest)

    def befall(self, fault: Callable[[], bool | None]) -> None:
        """One of them; it counts if it did something."""
        with contextlib.suppress(redis.RedisError):  # a fault that needs the server while it is away
            if fault() is not False:
                self.done[fault.__name__] += 1

    # processes

    def start(self, role: str, node: str) -> None:
        """An actor, whose clock is its node's."""
        self.started += 1
        order = self.world.order(role, node, f"{self.seed} {self.started}", url=self.proxy.url, losing=self.losing)
        nursery = self.nurseries.of(self.skew[node])
        self.actors.append(Actor(nursery.start(**order), role, node, nursery))

    def end(self, actor: Actor) -> None:
        """By `kill -9`, or asked politely, as a rolling deploy does."""
        self.actors.remove(actor)
        if actor in self.stopped:
            self.stopped.remove(actor)
        elif self.dice.random() < 0.3:
            os.kill(actor.pid, signal.SIGTERM)
            status = actor.nursery.reap(actor.pid)
            assert status in (0, -signal.SIGTERM), self.world.facts("wrong")  # the latter: it had hardly begun
            return
        actor.nursery.kill(actor.pid)

    def kill(self) -> None:
        """`kill -9` or SIGTERM, and a successor at once."""
        victim = self.dice.choice(self.actors)
        self.end(victim)
        self.start(victim.role, victim.node)

    def pause(self) -> bool:
        """SIGSTOP; a successor takes over, as after a failed health check."""
        victim = self.dice.choice(self.actors)
        if victim in self.stopped:
            return False
        os.kill(victim.pid, signal.SIGSTOP)
        self.stopped.append(victim)
        self.start(victim.role, victim.node)
        return True

    def wake(self) -> bool:
        """SIGCONT: long past its leases, its sessions' timeouts and its intents' deadlines, or not at all."""
        if not self.stopped:
            return False
        victim = self.dice.choice(self.stopped)
        self.stopped.remove(victim)
        os.kill(victim.pid, signal.SIGCONT)
        return True

    # the server, which keeps what it acknowledged

    def crash_server(self) -> None:
        """`kill -9` of the server; it comes back with what it had acknowledged."""
        self.server.crash()

    def load_slowly(self) -> None:
        """The same, and it answers LOADING for a while."""
        self.server.load_slowly()

    def fill_server(self) -> None:
        """Out of memory for a while."""
        self.server.fill()
        self._lasting.append(self.server.make_room)

    def demote(self) -> None:
        """READONLY for a while."""
        self.server.demote()
        self._lasting.append(self.server.promote)

    def forget_scripts(self) -> None:
        """SCRIPT FLUSH."""
        self.server.forget_scripts()

    def step_clock(self) -> None:
        """Forward or back. At the storm's end it goes to the furthest, or what was made there would live as long."""
        self.server.step(self.dice.choice([-7200, -60, -7, -1, 1, 7, 60, 7200]))
        self._furthest = max(self._furthest, self.server.offset)

    # the server, which loses what it acknowledged

    def remember(self) -> None:
        """A moment to which the server may be rolled back."""
        self._snapshots.append(self.server.aof.stat().st_size)

    def cut_tail(self) -> None:
        """The last writes are lost, as an unsynced page or a lagging replica loses them."""
        size = self.server.aof.stat().st_size
        self.server.cut_tail(max(0, size - self.dice.choice([100, 1_000, 10_000, 100_000])))
        self._snapshots = []

    def roll_back(self) -> None:
        """The state of a former moment comes back."""
        size = self.server.aof.stat().st_size
        self.server.cut_tail(min(size, self.dice.choice(self._snapshots)))
        self._snapshots = []

    def empty_server(self) -> bool:
        """Nothing comes back."""
        if self._befallen() == "unmounted":
            return False  # see befall_disk
        self.server.restart_empty()
        self._snapshots = []
        return True

    # the network

    def rain(self) -> None:
        """Connections are cut before requests and after replies for a while."""
        self.proxy.lose_request, self.proxy.lose_reply = self.dice.choice([(0.01, 0.02), (0, 0.04), (0.03, 0), (0, 0)])

    def tear(self) -> None:
        """Connections are cut in mid-reply for a while."""
        self.proxy.tear_reply = self.dice.choice([0.02, 0.05, 0])

    def slow(self) -> None:
        """Each chunk takes up to so many seconds, some longer than the socket's timeout."""
        self.proxy.delay = self.dice.choice([0.005, 0.05, 1.5])
        self._lasting.append(lambda: setattr(self.proxy, "delay", 0.0))

    # disks

    def vandalise(self) -> bool:
        """Something is done to a file that has to go."""
        if self._befallen() == "swapped":
            return False  # a node may have mounted the other disk at that path: the file would lie elsewhere afterwards
        done = self.vandal.act()
        if not done:
            return False
        self.done[f"vandal: {done}"] += 1
        return True

    def befall_disk(self) -> bool:
        """Read-only, full, unmounted, swapped with another, covered: one of them at a time."""
        assert self.disks is not None
        if self._befallen():
            return False
        ways = [self.disks.read_only, self.disks.full, self.disks.unmounted, self.disks.swapped, self.disks.covered]
        way = self.dice.choice(ways)
        name = self.dice.choice(NAMES)
        if way == self.disks.unmounted and not self.world.remembers_itself():
            # a store that knows no volume and an empty folder are a first start: a volume is made there, and the disk
            # that comes back covers what lies in it
            return False
        mended = way(name)
        if mended is None:
            return False
        self.done[f"disk: {way.__name__}"] += 1
        self._lasting.append(_OfDisk(mended, way.__name__))
        return True

    def _befallen(self) -> str:
        """What ails a disk now; "" if nothing does."""
        return next((mended.name for mended in self._lasting if isinstance(mended, _OfDisk)), "")

    # when it is over

    def settle(self) -> None:
        """Workers alone reclaim everything; where an operator must say a word first, it is said."""
        self.world.expire_leases()
        if not self.world.remembers_itself():
            self.world.held_until_an_operator_speaks()
        for _ in range(2):
            self.world.pass_once()
        if self.losing and self._furthest and "rolled-back" in self.world.holds().values():
            # as far back as its clock was ahead: the volumes' marks are from then, and only an operator can know
            self.world.held_until_an_operator_speaks()
        assert self.vandal.still_stands() == []
        self.vandal.undo()
        # what failed or is owed by a server whose clock was wrong waits for its next try: so does the tests' time
        patient = self.vandal.deeds or self.disks is not None or self._furthest
        # less at once than a first sighting of an orphan lasts
        self.world.settle(advance=1 if patient else 0, retry=True)

    def close(self) -> None:
        """After a failure too."""
        self.vandal.close()
        for deed in self.vandal.deeds:
            if deed.how == "immutable" and deed.path.exists():
                subprocess.run(["chattr", "-i", deed.path], check=False)


class _OfDisk:
    """What puts a disk right again."""

    def __init__(self, mended: Callable[[], object], name: str) -> None:
        self._mended = mended
        self.name = name

    def __call__(self) -> object:
        return self._mended()
