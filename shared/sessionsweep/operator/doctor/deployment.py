"""What is to be said of the deployment: its settings, the verdict, its queues, and the volumes of this node."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import redis

from sessionsweep.deployment import Core
from sessionsweep.operator import disks, vitals, volumes
from sessionsweep.operator.advice import REASONS
from sessionsweep.operator.findings import Code, Finding, failure, ok, unknown, warning
from sessionsweep.operator.verdict import judge
from sessionsweep.operator.wording import count
from sessionsweep.store.flow import run
from sessionsweep.store.protocol import Store
from sessionsweep.units import format_size

WAITING = 1000  # messages in a queue that nobody seems to take
INODES = 0.05  # of a disk's files that should be left
FORGETFUL = ("tmpfs", "ramfs")
SERVER = (Code.MEMORY, Code.EVICTION)  # what looking at the server itself has told


def examine(core: Core, store: Store) -> Iterator[Finding]:
    """What is to be said about it. Reads only.

    Raises:
        StoreError: the store doesn't answer.
    """
    rows = [row for row in run(volumes.listed(core), store) if row.path]
    measured = {row.id for row in rows if row.disk is not None}
    yield from _settings(core)
    yield from (one for one in judge(vitals.look(core, store), core.settings, measured) if one.code not in SERVER)
    yield from _here(core, rows)


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
        yield unknown(Code.QUEUE, "queues", f"the broker doesn't tell: {error}")
        return
    long = {name: length for name, length in lengths.items() if length > WAITING}
    for name, length in long.items():
        yield warning(
            Code.QUEUE, "queues", f"{length:,} messages wait in {name}", "start a worker that takes it, or more of them"
        )
    if not long:
        yield ok(
            Code.QUEUE, "queues", f"{count(sum(lengths.values()), 'message')} wait in {count(len(names), 'queue')}"
        )


def _settings(core: Core) -> Iterator[Finding]:
    s = core.settings
    if min(len(key) for key in core.keys) < 32:
        yield warning(
            Code.SETTINGS,
            "settings",
            "SESSIONSWEEP_SECRET_KEY is shorter than 32 bytes",
            "make a longer one, put it first",
        )
    if s.mode == "observe":
        yield warning(
            Code.SETTINGS,
            "settings",
            "SESSIONSWEEP_MODE=observe: nothing is deleted",
            "set it to enforce when you trust it",
        )
    if s.tombstone_retention < s.grace_period:
        yield warning(
            Code.SETTINGS, "settings", "receipts are kept for less than the grace period", "raise TOMBSTONE_RETENTION"
        )


def _here(core: Core, rows: Sequence[volumes.VolumeRow]) -> Iterator[Finding]:
    """The volumes that this node is to mount."""
    configured = {spec.name: spec for spec in core.settings.volumes}
    for row in rows:
        name = f"volume {row.name}"
        if row.state == "unmade":
            yield warning(
                Code.VOLUME, name, f"{row.path} is no volume yet", "a worker makes it at its start, if it is empty"
            )
        elif row.state != "here":
            known = REASONS.get(row.state)
            fix = known.remedy if known else "see sessionsweep holds list"
            words = {"node": core.settings.node, "name": row.name, "scope": ""}
            yield failure(Code.VOLUME, name, f"{row.path} can't be used here: {row.state}", fix.format_map(words))
        else:
            yield from _disk(name, row, configured[row.name].ephemeral, core.settings.idle_timeout)
    if not configured:
        yield ok(
            Code.VOLUME,
            "volumes",
            f"node {core.settings.node} has none: run doctor on each server that holds files, too",
        )


def _disk(name: str, row: volumes.VolumeRow, ephemeral: bool, idle_timeout: float) -> Iterator[Finding]:
    kind = _file_system(Path(row.path))
    if row.disk is not None:
        said = f"{row.path} ({kind}): {row.disk.full:.0%} full, {format_size(row.disk.free)} free"
        yield disks.of_space(name, row.disk, said, idle_timeout)
    try:
        found = os.statvfs(row.path)
    except OSError as error:
        yield failure(Code.DISK, name, f"{row.path} can't be looked at: {error.strerror}", "see dmesg")
        return
    if found.f_files and found.f_favail < INODES * found.f_files:
        left = found.f_favail / found.f_files
        yield failure(Code.DISK, name, f"only {left:.1%} of its inodes are left", "make room: every file takes one")
    if found.f_flag & os.ST_RDONLY:
        yield failure(Code.DISK, name, "it is mounted read-only", "see dmesg for why, repair and mount it again")
    if not os.access(row.path, os.R_OK | os.W_OK | os.X_OK):
        yield warning(Code.DISK, name, "this user may not write it", "run doctor as the worker's user")
    if kind in FORGETFUL and not ephemeral:
        yield warning(
            Code.DISK, name, f"it lies in memory ({kind}): its files are gone after a reboot", "mark it ?ephemeral"
        )


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
