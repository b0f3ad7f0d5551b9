"""Each volume as whoever is paged wants it: what it owes and since when, who mounts it and lives, and what stops it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sessionsweep.deployment import Core, partitions
from sessionsweep.model.holds import ALL, Hold, mount_scope, volume_scope
from sessionsweep.model.rows import json_object, whole
from sessionsweep.operator import causes, disks, holds, naming, nodes, owed
from sessionsweep.operator.findings import Code, Finding, Level, failure, note, warning
from sessionsweep.operator.wording import brief, count
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.protocol import Store

LOOKS = 200  # entries of a location's queues that are read, half of them from either end; all are counted
LAST_RECLAIM = "last:sessionsweep.reclaim:"  # rows of `passes`, then the volume's id
MOUNT = "mount:"  # what the scope of a hold on one node's mount begins with
LATE = 2  # intervals for which something may be due, or nobody come by, before somebody should ask why


@dataclass(frozen=True, slots=True)
class Worker:
    """One node's worker as seen from a volume. `seen_seconds_ago` None: never, or over a week ago. `mounts`: by its
    last heartbeat; a node that has mounted the volume before and doesn't now is listed too."""

    node: str
    seen_seconds_ago: float | None
    alive: bool
    mounts: bool


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """The last pass over a volume: which node's worker ran it, how long ago (s), and its counts."""

    node: str
    seconds_ago: float
    result: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Debt:
    """What waits at one location. `sessions`: queue entries. `late_seconds`: for how long the one that is due first has
    been (0: none is).

    The rest is read from `looked_at` of the entries, those due first and those due last; where that isn't all of them,
    there may be more: `owed` resources, their `bytes`, `oldest_seconds` since the first of their sessions ended
    (backing off doesn't shorten it), how many are `failing` with which `errors`, and how many are `in_use`.
    """

    sessions: int = 0
    late_seconds: float = 0.0
    looked_at: int = 0
    owed: int = 0
    bytes: int = 0
    oldest_seconds: float = 0.0
    failing: int = 0
    in_use: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether all of it was read."""
        return self.looked_at >= self.sessions


@dataclass(frozen=True, slots=True)
class Place:
    """One location; `volume_id` and `name` are empty for one that is no volume, `path` where it isn't mounted here.
    `problems`: what is wrong, and what to do, in sentences; `findings`: the same for programs."""

    location: str
    volume_id: str
    name: str
    path: str
    workers: tuple[Worker, ...]
    holds: tuple[str, ...]  # scopes of those that stop deleting there
    debt: Debt
    last_reclaim: Reclaimed | None
    disks: tuple[disks.Disk, ...] = ()  # as each node that mounts it sees its own
    problems: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def is_well(self) -> bool:
        """Whether nobody need look after it."""
        return all(one.level is Level.NOTE for one in self.findings)

    @property
    def title(self) -> str:
        """What findings about it begin with."""
        return f"volume {self.name}" if self.name else self.location


def look(core: Core, store: Store) -> list[Place]:
    """All volumes that anybody has told of, and every other location that is owed something; those with problems first.

    Writes nothing. The cost is bounded for each location, however much waits there.
    """
    names, seen = run(naming.names(core), store), run(nodes.listed(core), store)
    standing, now = run(holds.listed(), store)
    mounted = store.execute(op.Table("mounts"))
    passes = store.execute(op.Table("passes"))
    depths = _depths(core, store)
    places = []
    for location in sorted({*names.names, *depths}):
        volume_id = naming.volume_id_of(location)
        stops = [hold for hold in standing if volume_id and _stops(hold, volume_id, mounted)]
        place = Place(
            location,
            volume_id,
            names.names.get(location, ""),
            names.roots.get(location, ""),
            _workers(volume_id, mounted, seen) if volume_id else (),
            tuple(hold.scope for hold in stops),
            _debt(store, location, depths.get(location, [])),
            _last_reclaim(passes.get(f"{LAST_RECLAIM}{volume_id}"), now),
            disks.told(seen, volume_id),
        )
        found = (
            *judge(place, stops, core.settings.cleanup_interval, names.handle(location)),
            *_of_disks(place, seen, core.settings.idle_timeout),
        )
        places.append(replace(place, problems=tuple(one.sentence for one in found), findings=found))
    return sorted(places, key=lambda place: (not place.problems, not place.debt.sessions, place.name, place.location))


def judge(place: Place, stops: Sequence[Hold], interval: float, handle: str) -> Iterator[Finding]:
    """What keeps that location from being cleaned, the gravest first, each with what to do. `interval`: s; `handle`:
    what commands take for it."""
    debt, area = place.debt, place.title
    working = [worker.node for worker in place.workers if worker.alive and worker.mounts]
    everywhere = [hold for hold in stops if not hold.scope.startswith(MOUNT)]
    see = "see sessionsweep holds list"
    for hold in everywhere:
        yield failure(Code.HOLD, area, f"deleting is stopped by the hold on {hold.scope} ({hold.reason})", see)
    yield from _mounting(place, [hold for hold in stops if hold not in everywhere])
    if place.volume_id and not working:
        owing = f": {count(debt.sessions, 'ended session')} left files" if debt.sessions else ""
        silent = [worker.node for worker in place.workers if not worker.alive]
        fix = f"bring the worker of {', '.join(silent)} back" if silent else "see to its node first"
        if place.workers:
            yield failure(Code.UNATTENDED, area, f"nobody deletes what lies there{owing}", fix)
        else:
            yield failure(Code.UNATTENDED, area, "no node has told that it mounts it", "start a worker")
    if debt.failing:
        errors = ", ".join(f"{error or 'no error told'} x {n}" for error, n in sorted(debt.errors.items()))
        if len(debt.errors) == 1 and (meaning := causes.meaning(*debt.errors)):
            errors += f": {meaning}"
        more = "" if debt.is_complete else " or more"
        text = f"{debt.failing:,}{more} failed ({errors}) and will be tried again"
        yield failure(Code.FAILING, area, text, f"sessionsweep owed list --failing --volume {handle}")
    if debt.in_use:
        text = f"{debt.in_use:,} in use when last tried (locked by a process, or pinned)"
        yield note(Code.IN_USE, area, text, "tried every interval")
    last = place.last_reclaim
    if last is not None and last.result.get("would_delete"):
        yield warning(
            Code.OBSERVED, area, f"{last.node}'s worker only observes (SESSIONSWEEP_MODE=observe)", "it deletes nothing"
        )
    elif debt.late_seconds > LATE * interval and working and not everywhere:
        did = "hasn't reclaimed there yet" if last is None else f"reclaimed there {brief(last.seconds_ago)} ago"
        text = f"due for {brief(debt.late_seconds)}; {', '.join(working)} lives and {did}"
        yield failure(Code.LATE, area, text, "see its log")


def _of_disks(place: Place, seen: Sequence[nodes.Node], idle_timeout: float) -> Iterator[Finding]:
    """What is wrong with its disks: the verdict says the same."""
    yield from disks.judge_writing(place.title, seen, place.volume_id)
    for one in disks.judge_space(place.title, seen, place.volume_id, idle_timeout):
        if one.level is not Level.OK:
            yield one


def _mounting(place: Place, held: Sequence[Hold]) -> Iterator[Finding]:
    """Of each node that mounts it, or has: why its worker doesn't delete there."""
    area = place.title
    for hold in held:
        yield failure(Code.HOLD, area, f"{hold.node} can't use it ({hold.reason})", "see sessionsweep holds list")
    known = {hold.node for hold in held}
    moved = any(worker.alive and worker.mounts for worker in place.workers)  # to another node, perhaps
    for worker in place.workers:
        if worker.node in known or (moved and not worker.mounts):
            continue
        if worker.seen_seconds_ago is None:
            text, fix = "no worker was seen for a week", "start it, or forget the volume"
            yield failure(Code.NOT_MOUNTED, area, f"{worker.node}: {text}", fix)
        elif not worker.alive:
            text, fix = (
                f"its worker is silent for {brief(worker.seen_seconds_ago)}",
                "see whether it hangs, and start it",
            )
            yield failure(Code.WORKER, area, f"{worker.node}: {text}", f"{fix} again")
        elif not worker.mounts:
            text, fix = "its worker lives, but has not mounted the volume", "see its SESSIONSWEEP_VOLUMES, and its log"
            yield failure(Code.NOT_MOUNTED, area, f"{worker.node}: {text}", fix)


def _stops(hold: Hold, volume_id: str, mounted: Mapping[str, str]) -> bool:
    """Whether a hold stops deleting on that volume (on a node, where it is that node's mount)."""
    if hold.scope in (ALL, volume_scope(volume_id)):
        return True
    rows = (row.partition("/") for row, known in mounted.items() if known == volume_id)
    return hold.scope in {mount_scope(node, name) for node, _, name in rows}


def _workers(volume_id: str, mounted: Mapping[str, str], seen: Sequence[nodes.Node]) -> tuple[Worker, ...]:
    told = {node.name: node for node in seen}
    before = {row.partition("/")[0] for row, known in mounted.items() if known == volume_id}
    before |= {node.name for node in seen if volume_id in node.volumes}
    found = []
    for name in sorted(before):
        node = told.get(name)
        if node is None:
            found.append(Worker(name, None, False, False))
        else:
            found.append(Worker(name, node.seen_seconds_ago, node.alive, volume_id in node.volumes))
    return tuple(found)


def _depths(core: Core, store: Store) -> dict[str, list[tuple[str, op.QueueDepth]]]:
    """Location → its queue in each partition that has entries."""
    found: dict[str, list[tuple[str, op.QueueDepth]]] = {}
    for partition in run(partitions(core), store):
        for depth in store.execute(op.Queues(partition)):
            if depth.entries:
                found.setdefault(depth.location, []).append((partition, depth))
    return found


def _debt(store: Store, location: str, depths: Sequence[tuple[str, op.QueueDepth]]) -> Debt:
    """Reads both ends: what is due first waits for a worker, what is due last has failed most often."""
    found: list[owed.OwedResource] = []
    looked, share = 0, max(2, LOOKS // max(1, len(depths)))
    for partition, depth in depths:
        entries = _ends(store, partition, location, depth.entries, share)
        looked += len(entries)
        for one in owed.read(store, location, entries):
            found += one
    failing = [one for one in found if one.standing is owed.Standing.FAILING]
    return Debt(
        sessions=sum(depth.entries for _, depth in depths),
        late_seconds=max((depth.oldest_due for _, depth in depths), default=0) / 1000,
        looked_at=looked,
        owed=len(found),
        bytes=sum(one.record.size for one in found),
        oldest_seconds=max((one.owed_seconds for one in found), default=0.0),
        failing=len(failing),
        in_use=sum(one.standing is owed.Standing.IN_USE for one in found),
        errors=dict(Counter(one.record.error for one in failing)),
    )


def _ends(store: Store, partition: str, location: str, entries: int, share: int) -> list[op.QueueEntry]:
    """At most `share` of a queue's entries: all, or half of them from either end."""
    if entries <= share:
        return list(store.execute(op.QueuePage(partition, location, limit=share)))
    first = store.execute(op.QueuePage(partition, location, limit=share // 2))
    last = store.execute(op.QueuePage(partition, location, limit=share // 2, latest=True))
    return list({entry.session_id: entry for entry in (*first, *last)}.values())


def _last_reclaim(row: str | None, now: int) -> Reclaimed | None:
    about = json_object(row or "{}")
    node, at, result = about.get("node"), whole(about.get("at")), about.get("result")
    if not isinstance(node, str) or at < 0 or not isinstance(result, dict):
        return None
    return Reclaimed(node, max(0.0, (now - at) / 1000), result)
