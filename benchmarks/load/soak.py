"""The soak: traffic and seeded faults for an hour; whether anything grows, is lost, wrongly deleted or stays down."""

from __future__ import annotations

import asyncio
import math
import os
import statistics
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import outside, trends
from benchmarks.load.deployed import Up
from benchmarks.load.faults import GIVE_UP, Fault, Faults, Kinds, Missed, never_bit
from benchmarks.load.openloop import Generator, Measured
from benchmarks.load.probes import Looks, Sampler, families, living_keys
from benchmarks.load.tables import Verdict, verdict
from benchmarks.load.visitors import CAME_BACK, ENDED, PATIENCE, RESTS, Record, Visitor, away

#: Short, so that an hour sees every deadline pass many times; the lease stays below the promised recovery.
SETTINGS: dict[str, object] = {
    "idle_timeout": 60,
    "max_duration": 0,
    "grace_period": 5,
    "cleanup_interval": 5,
    "lease": 20,
    "intent_timeout": 60,
    "tombstone_retention": 300,
    "orphan_interval": 120,
    "orphan_min_age": 60,
}
BOTH = ("web-a", "web-b", "worker-a", "worker-b")
KINDS: Kinds = (
    ("kill", BOTH),
    ("kill", BOTH),
    ("kill", ("beat", "redis")),
    ("kill", ("flower", "admin")),
    ("term", (*BOTH, "beat")),
    ("stop", (*BOTH, "beat", "redis")),
    ("cut", ("redis",)),
    ("flush scripts", ("redis",)),
    ("lose messages", ("redis",)),
    ("double messages", ("redis",)),
    ("forge messages", ("redis",)),
    ("no beat", ("beat",)),
    ("two beats", ("beat",)),
)
ROLES = ("supervisor", "redis", "beat", "flower", "admin", *BOTH)
#: Each half of a soak spares these from death, so that each role grows old among the other faults.
SPARED = (("web-b", "worker-b", "beat", "flower"), ("web-a", "worker-a", "redis", "admin"))
LONG = 900.0  # seconds: each kind of fault comes, more than once
WHOLE = 3600.0  # seconds: what can't be judged after these is short
RATE = 30.0  # requests a second
WARM_UP = 600.0  # seconds of each process: caches fill (512 patterns in `re` alone), threads get their arenas
SETTLED = 60.0  # seconds after which a server that was started again has its buffers and scripts again
FLOOR = 120.0  # seconds of which the least number of descriptors or threads counts: requests come and go
LONG_ENOUGH = 600.0  # seconds of one life after its warm-up: less says nothing about growth
RECOVERY = 60.0  # seconds

RECOVERIES = (
    ("requests on every node", "web"),
    ("debt falls on every node", "debt"),
    ("another process is there", "back"),
)

#: "Flat", an hour: an allocator's creeping stays below, 50 bytes kept of each request at 30 a second don't.
RSS_BOUND = 5_000_000.0  # bytes
COUNT_BOUND = 2.0  # descriptors, threads
REDIS_BOUND = 1_000_000.0  # bytes
KEYS_BOUND = 0.05  # of the median


@dataclass(frozen=True, slots=True)
class Plan:
    """What a soak does; seconds. A run of the same seed draws the same requests and faults."""

    seed: str
    seconds: float
    rate: float = RATE
    visitors: int = 60  # beside those who rest
    every: float = 5.0  # between looks
    warm_up: float = WARM_UP
    pause: tuple[float, float] = (4.0, 20.0)  # between a recovery and the next fault
    give_up: float = GIVE_UP  # after which a recovery is no longer waited for
    settings: tuple[tuple[str, object], ...] = ()

    @property
    def options(self) -> dict[str, object]:
        """The deployment's settings."""
        return {**SETTINGS, **dict(self.settings)}

    @property
    def idle_timeout(self) -> float:
        """Of the deployment, seconds."""
        return float(str(self.options["idle_timeout"]))

    @property
    def crowd(self) -> int:
        """How many visitors keep the rate while some rest."""
        return self.visitors + math.ceil(1.2 * away(RESTS, self.rate, self.idle_timeout))

    def spared(self, at: float) -> Collection[str]:
        """Whose processes live on at a moment, seconds after the begin."""
        return SPARED[at >= self.seconds / 2]


def short(seed: str) -> Plan:
    """The form that the tests run, every deadline shortened: only the checks from the outside mean something."""
    settings = {
        "idle_timeout": 5,
        "grace_period": 0.5,
        "cleanup_interval": 1,
        "lease": 3,
        "intent_timeout": 5,
        "orphan_interval": 5,
        "orphan_min_age": 2,
    }
    traffic = {"seconds": 10.0, "rate": 20.0, "visitors": 12}
    patience = {"every": 1.0, "warm_up": 2.0, "pause": (0.1, 1.0), "give_up": 20.0}
    return Plan(seed, **traffic, **patience, settings=tuple(settings.items()))


@dataclass
class Outcome:
    """What a soak saw."""

    plan: Plan
    traffic: Measured
    record: Record
    faults: list[Fault]
    missed: list[Missed]
    looks: Looks
    canaries: int
    harmed: list[str]
    living: int
    clean_after: float | None
    imbalance: int
    books: dict[str, int]
    families: dict[str, int]

    @property
    def wrong(self) -> list[str]:
        """What contradicts the visitors' record."""
        return self.record.wrong

    @property
    def verdicts(self) -> list[Verdict]:
        """All of them."""
        return [*self.outside(), *self.recoveries(), *self.happened(), *self.growth()]

    def outside(self) -> list[Verdict]:
        """The checks from the outside: they hold for a soak of any length."""
        dead = self.books.get("dead", 0)
        return [
            verdict("traffic given up", int(self.traffic.given_up), 0),
            verdict("wrong in the visitors' record or on the disks", len(self.record.wrong), 0),
            verdict("canaries harmed", len(self.harmed), 0),
            verdict("seconds until nothing was left or owed", self.clean_after, _limit(self.plan)),
            verdict("imbalance of the books", abs(self.imbalance), 0),
            verdict("dead letters", dead, 0),
            verdict("keys of sessions, resources, intents, queues left", self._left_keys(), 0),
        ]  # fmt: skip

    def _left_keys(self) -> int:
        return living_keys(self.families)

    def recoveries(self) -> list[Verdict]:
        """Recovery from each fault; without any there is nothing that was recovered from."""
        found = []
        for name, pick in RECOVERIES:
            times = [getattr(fault, pick) for fault in self.faults]
            worst = None if None in times else max(times, default=None)
            found.append(verdict(f"slowest recovery, {name}, s", worst, RECOVERY))
        return found

    def happened(self) -> list[Verdict]:
        """Whether what the soak is for was there at all."""
        long = self.plan.seconds >= LONG
        rests = [name for name in (CAME_BACK, ENDED) if not self.record.counts[name]]
        return [
            verdict("kinds of faults that never bit", len(self.never), 0, judged=long),
            verdict("kinds of rests that nobody came back from", len(rests), 0, judged=long),
        ]

    @property
    def never(self) -> list[str]:
        """Kinds of faults that never bit."""
        return never_bit(KINDS, self.faults)

    def growth(self) -> list[Verdict]:
        """Growth of each role and of the store, an hour."""
        found, warm_up = [], self.plan.warm_up
        for role in ROLES:
            for value, bound in (("rss", RSS_BOUND), ("fds", COUNT_BOUND), ("threads", COUNT_BOUND)):
                if role == "redis" and value == "rss":
                    continue  # its data are judged below; the rest is its allocator's and its AOF rewriting's
                lives = trends.lives(self.looks.of(role), value, warm_up)
                if value == "rss":
                    found.append(self._grown(f"{role}: rss, growth an hour", lives, trends.slope(lives), bound))
                else:  # a handful that scatters by some: two more or less in half an hour are no trend
                    sure = trends.at_least(trends.floors(lives, FLOOR))
                    found.append(self._grown(f"{role}: {value}, growth an hour at least", lives, sure, bound))
        # Receipts are as many as they will be when the first of them go.
        s = self.plan.options
        full = float(str(s["tombstone_retention"])) + 2 * self.plan.idle_timeout + 60
        store = [look for look in self.looks.store if look.at >= max(warm_up, full)]
        keys = statistics.median([look.keys for look in store]) if store else 0
        # Keys outlive a restart; what else takes memory (buffers, scripts) begins anew with each.
        memory = trends.lives(store, "used_memory", SETTLED)
        found.append(self._grown("Redis: used_memory, growth an hour", memory, trends.slope(memory), REDIS_BOUND))
        all_keys = [[(look.at, float(look.keys)) for look in store]]
        found.append(self._grown("Redis: keys, growth an hour", all_keys, trends.slope(all_keys), KEYS_BOUND * keys))
        return found

    def _grown(self, what: str, lives: Sequence[Sequence[trends.Point]], slope: float | None, bound: float) -> Verdict:
        judged = trends.longest(lives) >= LONG_ENOUGH
        required = self.plan.seconds >= WHOLE
        return verdict(what, None if slope is None else slope * 3600, bound, judged=judged, required=required)

    def as_json(self) -> dict[str, Any]:
        """For the report, with every look."""
        return {
            "plan": asdict(self.plan) | {"settings": self.plan.options, "crowd": self.plan.crowd, "patience": PATIENCE},
            "traffic": self.traffic.as_json(),
            "visitors": {"counts": dict(self.record.counts), "wrong": self.record.wrong},
            "faults": [fault.as_json() for fault in self.faults],
            "faults_missed": [one.as_json() for one in self.missed],
            "faults_that_never_bit": self.never,
            "verdicts": [one.as_json() for one in self.verdicts],
            "canaries": {"planted": self.canaries, "harmed": self.harmed},
            "living_files_compared": self.living,
            "books": self.books,
            "key_families_at_the_end": self.families,
            "roles": {role: _summary(self.looks, role) for role in self.looks.roles},
            "looks": {
                "processes": [[getattr(look, name) for name in look.__slots__] for look in self.looks.processes],
                "store": [[getattr(look, name) for name in look.__slots__] for look in self.looks.store],
            },
        }


def _summary(looks: Looks, role: str) -> dict[str, Any]:
    seen = looks.of(role)
    return {
        "lives": len({look.pid for look in seen}),
        "rss_median": int(statistics.median(look.rss for look in seen)),
        "rss_max": max(look.rss for look in seen),
        "fds_max": max(look.fds for look in seen),
        "threads_max": max(look.threads for look in seen),
    }


def _limit(plan: Plan) -> float:
    """Seconds after the last request by which all must be gone: idle time-out, a hold as long since the last fault,
    grace, a lease, and what an orphan takes that is found twice."""
    s = {name: float(str(value)) for name, value in plan.options.items()}
    return (
        2 * s["idle_timeout"] + s["grace_period"] + s["lease"] + s["intent_timeout"] + s["orphan_min_age"]
        + 3 * s["orphan_interval"] + 5 * s["cleanup_interval"]
    )  # fmt: skip


def soak(plan: Plan, folder: Path) -> Outcome:
    """Runs it in `folder` (made, and left to the caller)."""
    record = Record()
    with Up(folder, plan.options) as up:
        canaries = outside.Canaries(up)
        visitors = [Visitor(n, plan.seed, up.nodes, record, plan.idle_timeout, RESTS) for n in range(plan.crowd)]
        sampler = Sampler(up, plan.every)
        interval = float(str(plan.options["cleanup_interval"]))
        faults = Faults(up, plan.seed, KINDS, plan.pause, plan.spared, plan.give_up, interval)
        sampler.start()
        faults.start()
        try:
            traffic = asyncio.run(Generator(visitors, plan.seed).run(plan.rate, plan.seconds))
            # At once, from the disks alone: a recovery may still go on, and who is silent for long may rightly end.
            living, wrong = outside.living(up, visitors)
        finally:
            done = faults.close()
            looks = sampler.close()
        record.wrong += wrong
        clean_after = outside.until_clean(up, canaries, _limit(plan))
        imbalance, books = outside.balance(up)
        return Outcome(
            plan, traffic, record, done, faults.missed, looks, canaries.count, canaries.harmed, living, clean_after,
            imbalance, books, families(up.client),
        )  # fmt: skip


def machine() -> dict[str, Any]:
    """What a figure depends on."""
    return {"cpus": os.cpu_count(), "load": os.getloadavg(), "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
