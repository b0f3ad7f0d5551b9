"""What the store tells of the deployment: workers, sweeps, queues, holds, dead letters, books, and each volume."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import redis

from sessionsweep.deployment import Core
from sessionsweep.operator import nodes, places, volumes
from sessionsweep.operator.advice import REASONS, advice
from sessionsweep.operator.doctor.findings import Finding, failure, ok, unknown, warning
from sessionsweep.operator.queries import Overview, overview
from sessionsweep.operator.wording import brief, count
from sessionsweep.store.flow import run
from sessionsweep.store.protocol import Store
from sessionsweep.units import format_size

LATE = 3  # intervals without a sweep, or a beat, after which somebody should ask why
WAITING = 1000  # messages in a queue that nobody seems to take
FULL, FILLING = 0.95, 0.85  # of a disk
INODES = 0.05  # of a disk's files that should be left
FORGETFUL = ("tmpfs", "ramfs")


def examine(core: Core, store: Store) -> Iterator[Finding]:
    """What is to be said about it. Reads only.

    Raises:
        StoreError: the store doesn't answer.
    """
    seen = run(overview(core), store)
    yield from _settings(core)
    yield from _workers(core, store)
    yield from _sweeps(core, seen)
    yield from _holds(seen)
    yield from _books(seen)
    yield from _here(core, store)
    yield from _everywhere(core, store)


def queues(core: Core, store: Store, url: str, timeout: float) -> Iterator[Finding]:
    """How many messages wait for workers, where the broker is a Redis."""
    known = [row.id for row in run(volumes.listed(core), store) if row.id]
    names = ["sessionsweep", *(f"sessionsweep.volume.{volume_id}" for volume_id in known)]
    try:
        with redis.Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout) as client:
            pipeline = client.pipeline(transaction=False)
            for name in names:
                pipeline.llen(f"{core.settings.namespace}:celery:{name}")
            lengths = dict(zip(names, pipeline.execute(), strict=True))
    except (redis.RedisError, OSError) as error:
        yield unknown("queues", f"the broker doesn't tell: {error}")
        return
    long = {name: length for name, length in lengths.items() if length > WAITING}
    for name, length in long.items():
        yield warning("queues", f"{length:,} messages wait in {name}", "start a worker that takes it, or more of them")
    if not long:
        yield ok("queues", f"{count(sum(lengths.values()), 'message')} wait in {count(len(names), 'queue')}")


def _settings(core: Core) -> Iterator[Finding]:
    s = core.settings
    if min(len(key) for key in core.keys) < 32:
        yield warning("settings", "SESSIONSWEEP_SECRET_KEY is shorter than 32 bytes", "make a longer one, put it first")
    if s.mode == "observe":
        yield warning(
            "settings", "SESSIONSWEEP_MODE=observe: nothing is deleted", "set it to enforce when you trust it"
        )
    if s.tombstone_retention < s.grace_period:
        yield warning("settings", "receipts are kept for less than the grace period", "raise TOMBSTONE_RETENTION")


def _workers(core: Core, store: Store) -> Iterator[Finding]:
    seen = run(nodes.listed(core), store)
    start = (
        "start one on each server: celery -A sessionsweep_workers worker"
        if core.settings.sweeper == "workers"
        else "start an app with SESSIONSWEEP_SWEEPER=in-process"
    )
    if not seen:
        yield failure("workers", "no worker was ever seen: nothing is swept or deleted", start)
    for node in seen:
        if not node.readable:
            yield unknown("workers", f"what {node.name} told of itself can't be read")
        elif node.alive:
            yield ok("workers", f"{node.name} was heard {brief(node.seen_seconds_ago)} ago")
        else:
            yield failure(
                "workers",
                f"{node.name} is silent for {brief(node.seen_seconds_ago)}",
                "see whether it hangs, and start it again; a server that is gone for good is forgotten after a week",
            )


def _sweeps(core: Core, seen: Overview) -> Iterator[Finding]:
    patience = LATE * max(core.settings.cleanup_interval, 10)
    last, beat = seen.last_sweep_seconds_ago, seen.beat_seconds_ago
    if last is None or last > patience:
        when = "never" if last is None else f"{brief(last)} ago"
        yield failure(
            "sweeps", f"the last sweep ran {when}: sessions that are over keep their files", "see the workers"
        )
    else:
        yield ok("sweeps", f"the last sweep ran {brief(last)} ago")
    if core.settings.sweeper == "workers" and (beat is None or beat > patience):
        when = "was never seen" if beat is None else f"is silent for {brief(beat)}"
        yield warning(
            "sweeps",
            f"beat {when}: workers sweep by themselves, but later",
            "start one or more: celery -A sessionsweep_workers beat",
        )
    for alarm in seen.alarms:
        yield warning("alarms", alarm.text, "see docs/operations.md")
    late = max((waits.oldest_due_seconds for waits in seen.backlog), default=0.0)
    if late > patience:
        yield failure("sweeps", f"what was due {brief(late)} ago isn't deleted yet", "sessionsweep owed list")


def _holds(seen: Overview) -> Iterator[Finding]:
    for hold in seen.holds:
        told = advice(hold)
        by_itself = hold.until or (REASONS.get(hold.reason) is not None and told.ends.startswith("by itself"))
        make = warning if by_itself else failure
        yield make("holds", f"{hold.scope} ({hold.reason}): {hold.text}", told.remedy)
    if not seen.holds:
        yield ok("holds", "none: nothing stops deleting")


def _books(seen: Overview) -> Iterator[Finding]:
    stats = seen.stats
    if stats.imbalance:
        yield failure(
            "books",
            f"{abs(stats.imbalance)} resources are unaccounted for",
            "writes were lost: the orphan pass mends it within an hour or two; if it stays, report it",
        )
    else:
        yield ok("books", "they balance: every resource that was registered is accounted for")
    if dead := stats.resources["dead"]:
        yield warning("books", f"{count(dead, 'dead letter')}", "sessionsweep dead-letters list")


def _here(core: Core, store: Store) -> Iterator[Finding]:
    """The volumes that this node is to mount."""
    configured = {spec.name: spec for spec in core.settings.volumes}
    for row in run(volumes.listed(core), store):
        if not row.path:
            continue
        name = f"volume {row.name}"
        if row.state == "unmade":
            yield warning(name, f"{row.path} is no volume yet", "a worker makes it at its start, if it is empty")
        elif row.state != "here":
            known = REASONS.get(row.state)
            fix = known.remedy if known else "see sessionsweep holds list"
            words = {"node": core.settings.node, "name": row.name, "scope": ""}
            yield failure(name, f"{row.path} can't be used here: {row.state}", fix.format_map(words))
        else:
            yield from _disk(name, row, configured[row.name].ephemeral)
    if not configured:
        yield ok("volumes", f"node {core.settings.node} has none: run doctor on each server that holds files, too")


def _disk(name: str, row: volumes.VolumeRow, ephemeral: bool) -> Iterator[Finding]:
    kind = _file_system(Path(row.path))
    if row.disk is not None:
        said = f"{row.path} ({kind}): {row.disk.full:.0%} full, {format_size(row.disk.free)} free"
        make_room = "make room, or a larger disk; what may go: sessionsweep stats, sweep idle --idle-for 1h"
        if row.disk.full > FULL:
            yield failure(name, said, make_room)
        elif row.disk.full > FILLING:
            yield warning(name, said, make_room)
        else:
            yield ok(name, said)
    try:
        found = os.statvfs(row.path)
    except OSError as error:
        yield failure(name, f"{row.path} can't be looked at: {error.strerror}", "see dmesg")
        return
    if found.f_files and found.f_favail < INODES * found.f_files:
        left = found.f_favail / found.f_files
        yield failure(name, f"only {left:.1%} of its inodes are left", "make room: every file takes one")
    if found.f_flag & os.ST_RDONLY:
        yield failure(name, "it is mounted read-only", "see dmesg for why, repair and mount it again")
    if not os.access(row.path, os.R_OK | os.W_OK | os.X_OK):
        yield warning(name, "this user may not write it", "run doctor as the worker's user")
    if kind in FORGETFUL and not ephemeral:
        yield warning(name, f"it lies in memory ({kind}): its files are gone after a reboot", "mark it ?ephemeral")


def _file_system(path: Path) -> str:
    """The type of the file system that a path lies on, as the kernel calls it; `?` where that isn't told."""
    best, kind = "", "?"
    try:
        real = os.path.realpath(path)
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                _, at, what, *_ = line.split(" ")
                at = at.replace("\\040", " ")
                if (real == at or real.startswith(at.rstrip("/") + "/")) and len(at) >= len(best):
                    best, kind = at, what
    except (OSError, ValueError):
        return "?"
    return kind


def _everywhere(core: Core, store: Store) -> Iterator[Finding]:
    for place in places.look(core, store):
        name = f"volume {place.name}" if place.name else place.location
        for problem in place.problems:
            yield failure(name, problem, "")
        if not place.problems and place.volume_id:
            waits = f"{count(place.debt.sessions, 'session')} owe" if place.debt.sessions else "nothing is owed"
            yield ok(name, f"{waits} there, and a worker that lives mounts it")
