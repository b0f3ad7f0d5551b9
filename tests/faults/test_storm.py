"""Promises 1, 2, 6, 21 and 25 in one storm: everything is killed, paused and cut off at seeded moments."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.world import Actor, Nursery, World
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.proxy import FaultyProxy

pytestmark = pytest.mark.faults

#: Every acknowledged write is in the kernel before its reply leaves, so `kill -9` of the server loses none. (With
#: `everysec` a slow disk may delay the write by two seconds: what that loses is tried in test_lost_writes.)
DURABLE = {"appendfsync": "no"}
STORM = 1.2  # seconds


class Storm:
    """The seeded course of one schedule."""

    def __init__(self, seed: str, world: World, nursery: Nursery, server: EmbeddedServer, proxy: FaultyProxy) -> None:
        self.dice = random.Random(f"{seed} storm")
        self.seed, self.world, self.nursery, self.server, self.proxy = seed, world, nursery, server, proxy
        self.actors: list[Actor] = []
        self.stopped: list[Actor] = []
        self.started = 0
        self.done: list[str] = []
        self._clock = threading.Event()  # never set: a wait that the schedule itself asks for

    def run(self) -> None:
        """From the first actor to the last one's death."""
        for role, node in (("web", "a"), ("web", "b"), ("worker", "a"), ("worker", "b")):
            self.start(role, node)
        moments = sorted(self.dice.uniform(0.15, STORM) for _ in range(self.dice.randint(4, 9)))
        before = 0.0
        for moment in moments:
            self._clock.wait(moment - before)
            before = moment
            fault = self.dice.choice([self.kill, self.kill, self.pause, self.wake, self.crash_server, self.rain])
            self.done.append(fault.__name__)
            fault()
        self._clock.wait(STORM - before)
        self.proxy.behave()
        for actor in list(self.actors):
            self.end(actor)

    def start(self, role: str, node: str) -> None:
        self.started += 1
        order = self.world.order(role, node, f"{self.seed} {self.started}", url=self.proxy.url)
        self.actors.append(Actor(self.nursery.start(**order), role, node))

    def end(self, actor: Actor) -> None:
        self.actors.remove(actor)
        if actor in self.stopped:
            self.stopped.remove(actor)
        elif self.dice.random() < 0.2:  # asked politely, as a rolling deploy does
            os.kill(actor.pid, signal.SIGTERM)
            assert self.nursery.reap(actor.pid) == 0
            return
        self.nursery.kill(actor.pid)

    def kill(self) -> None:
        """`kill -9`, and a successor at once."""
        victim = self.dice.choice(self.actors)
        self.end(victim)
        self.start(victim.role, victim.node)

    def pause(self) -> None:
        """SIGSTOP; a successor takes over, as after a failed health check."""
        victim = self.dice.choice(self.actors)
        if victim not in self.stopped:
            os.kill(victim.pid, signal.SIGSTOP)
            self.stopped.append(victim)
            self.start(victim.role, victim.node)

    def wake(self) -> None:
        """SIGCONT: long past its leases, its sessions' timeouts and its intents' deadlines, or not at all."""
        if self.stopped:
            victim = self.dice.choice(self.stopped)
            self.stopped.remove(victim)
            os.kill(victim.pid, signal.SIGCONT)

    def crash_server(self) -> None:
        """`kill -9` of the server; it comes back with what it had acknowledged."""
        self.server.kill()
        self.server.restart()

    def rain(self) -> None:
        """Connections are cut before requests and after replies for a while."""
        self.proxy.lose_request, self.proxy.lose_reply = self.dice.choice([(0.01, 0.02), (0, 0.04), (0.03, 0), (0, 0)])


def test_whatever_is_killed_paused_or_cut_off_everything_is_reclaimed_and_nothing_else(
    seed: str,
    folder: Path,
    nursery: Nursery,
    own_server: Callable[..., EmbeddedServer],
    fresh_name: Callable[[], str],
) -> None:
    server = own_server(data_dir=folder.parent / "server", extra_config=DURABLE)
    dice = random.Random(seed)
    world = World(folder, server.url, fresh_name(), partitions=dice.choice([1, 1, 3]))
    with FaultyProxy(server.url, seed) as proxy:
        storm = Storm(seed, world, nursery, server, proxy)
        storm.run()
    try:
        world.settle()
        world.judge()
        did = world.did()
        assert sum(did.values()) > 20, f"too little happened: {did}"
    finally:
        world.close()
