"""The one judgement of a deployment: what its vital signs mean, in words, with what mends it.

The dashboard's first page shows it, `doctor` begins with it; `/metrics` and the alert rules stand on the same signs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from sessionsweep.model import books
from sessionsweep.model.holds import Hold, orphans_scope, volume_scope
from sessionsweep.operator import disks, memory, nodes, persistence
from sessionsweep.operator.advice import REASONS, advice
from sessionsweep.operator.findings import Code, Finding, Level, failure, note, ok, unknown, warning
from sessionsweep.operator.nodes import Node
from sessionsweep.operator.places import LATE, Place
from sessionsweep.operator.vitals import Vitals
from sessionsweep.operator.wording import brief, count
from sessionsweep.settings import Settings

YOUNG = 3  # intervals in which a deployment has just begun: who is still to come isn't missed
#: Of a place's findings, what the verdict says already: of a node or a hold in other words, of a disk in the same.
TOLD = frozenset({Code.HOLD, Code.WORKER, Code.DISK, Code.UNWRITABLE})
GRAVEST = (Level.FAILURE, Level.WARNING, Level.UNKNOWN, Level.NOTE, Level.OK)


def judge(seen: Vitals, settings: Settings, measured: Collection[str] = ()) -> list[Finding]:
    """All that is to be said of it, the gravest first.

    `measured`: ids of volumes whose disks whoever asks looks at by itself.
    """
    found = [
        *_server(seen, settings),
        *_workers(seen, settings),
        *_passes(seen, settings),
        *_holds(seen),
        *_places(seen),
        *_disks(seen, settings, measured),
        *_books(seen),
    ]
    return sorted(found, key=lambda one: GRAVEST.index(one.level))


def _server(seen: Vitals, settings: Settings) -> Iterator[Finding]:
    if seen.memory is not None:
        yield from memory.judge("store", seen.memory, settings.idle_timeout)
    yield from memory.judge_policy("store", seen.policy)
    yield from persistence.judge("store", seen.unwritten or ())


def _workers(seen: Vitals, settings: Settings) -> Iterator[Finding]:
    start = (
        "start one on each server: celery -A sessionsweep_workers worker"
        if settings.sweeper == "workers"
        else "start an app with SESSIONSWEEP_SWEEPER=in-process"
    )
    if not seen.nodes:
        yield failure(Code.NO_WORKER, "workers", "no worker was ever seen: nothing is swept or deleted", start)
    for node in seen.nodes:
        if not node.readable:
            yield unknown(
                Code.WORKER,
                "workers",
                f"what {node.name} told of itself can't be read",
                "if it lives, it says so anew within seconds",
            )
        elif node.alive:
            yield ok(Code.WORKER, "workers", f"{node.name} was heard {brief(node.seen_seconds_ago)} ago")
        else:
            only = _only_there(node, seen)
            yield failure(
                Code.WORKER,
                "workers",
                f"{node.name} is silent for {brief(node.seen_seconds_ago)}"
                + (f": nobody else mounts {only}" * bool(only)),
                "see whether it hangs, and start it again; a server that is gone for good is forgotten after a week",
            )


def _only_there(node: Node, seen: Vitals) -> str:
    """Names of the volumes that no worker mounts but that silent one's."""
    elsewhere = {volume_id for other in seen.nodes if other.alive for volume_id in other.volumes}
    return ", ".join(sorted(name for volume_id, name in node.volumes.items() if volume_id not in elsewhere))


def _passes(seen: Vitals, settings: Settings) -> Iterator[Finding]:
    """Who should have come by meanwhile: the sweep, the beat that sends it, and passes that fail."""
    patience = max(nodes.SILENCE, LATE * settings.cleanup_interval)
    last, since = seen.last_sweep_seconds_ago, seen.run_seconds
    began = since is None or since <= max(nodes.SILENCE, YOUNG * settings.cleanup_interval)
    late = max(seen.sweep_late_seconds, last or 0.0)
    if last is None and began and late <= patience:
        yield note(Code.SWEEP, "sweeps", "none ran yet, and none is late: the deployment has just begun")
    elif last is None or late > patience:
        when = "never" if last is None else f"{brief(last)} ago"
        text = f"the last sweep ran {when}: sessions that are over keep their files"
        yield failure(Code.SWEEP, "sweeps", text, "see the workers and their log")
    else:
        yield ok(Code.SWEEP, "sweeps", f"the last sweep ran {brief(last)} ago")
    if settings.sweeper == "workers":
        yield from _beat(seen, patience, began)
    for alarm in seen.alarms:
        if alarm.scope.startswith("disk:"):
            area = f"volume {alarm.scope.rpartition('/')[2]}"
            yield failure(Code.NOT_ANSWERING, area, alarm.text, "see docs/operations.md: a disk hangs")
            continue
        if alarm.scope not in ("beat", "books"):  # which _beat and _books tell of
            yield warning(Code.MARKS, "alarms", alarm.text, "see docs/operations.md")
    names = {place.volume_id: place.name for place in seen.places or ()}
    for run in seen.passes:
        if run.state == "failed":
            where = f" on volume {names.get(run.volume_id) or run.volume_id}" if run.volume_id else ""
            text = f"the last {run.task}{where} failed, {brief(run.seconds_ago)} ago"
            yield warning(Code.RUN_FAILED, "sweeps", text, "see the log of the worker that ran it")


def _beat(seen: Vitals, patience: float, began: bool) -> Iterator[Finding]:
    """Workers raise the alarm within two intervals; where none lives to raise it, the mark tells."""
    beat, raised = seen.beat_seconds_ago, any(alarm.scope == "beat" for alarm in seen.alarms)
    start = "start one or more: celery -A sessionsweep_workers beat"
    if beat is None and began and not raised:
        yield note(Code.BEAT, "sweeps", "no beat was seen yet: the deployment has just begun")
    elif beat is None or raised or beat > patience:
        when = "was never seen" if beat is None else f"is silent for {brief(beat)}"
        yield warning(Code.BEAT, "sweeps", f"beat {when}: workers sweep by themselves, but later", start)
    else:
        yield ok(Code.BEAT, "sweeps", f"beat was heard {brief(beat)} ago")


def _holds(seen: Vitals) -> Iterator[Finding]:
    names = {place.volume_id: place.name for place in seen.places or () if place.volume_id}
    for hold in seen.holds:
        told = advice(hold)
        by_itself = hold.until or (REASONS.get(hold.reason) is not None and told.ends.startswith("by itself"))
        make = warning if by_itself and hold.scope.partition(":")[0] != "mount" else failure
        text = f"{_named(hold, names)} ({hold.reason}): {hold.text.rstrip('.')}"
        yield make(Code.HOLD, "holds", text, told.remedy)
    if not seen.holds:
        yield ok(Code.HOLD, "holds", "none: nothing stops deleting")


def _named(hold: Hold, names: Mapping[str, str]) -> str:
    """The scope, and the volume's name where only its id stands there."""
    for volume_id, name in names.items():
        if name and hold.scope in (volume_scope(volume_id), orphans_scope(volume_id)):
            return f"{hold.scope} (volume {name})"
    return hold.scope


def _places(seen: Vitals) -> Iterator[Finding]:
    if seen.places is None:
        yield failure(
            Code.UNREADABLE,
            "volumes",
            "a record of what they owe can't be read, so their debts can't be told",
            "the log of the process that looked names the session",
        )
    for place in seen.places or ():
        yield from (one for one in place.findings if one.code not in TOLD)
        if place.is_well and place.volume_id:
            yield ok(Code.VOLUME, place.title, _waits(place))


def _waits(place: Place) -> str:
    waits = f"{count(place.debt.sessions, 'session')} owe" if place.debt.sessions else "nothing is owed"
    return f"{waits} there, and a worker that lives mounts it"


def _disks(seen: Vitals, settings: Settings, measured: Collection[str]) -> Iterator[Finding]:
    """Also where what volumes owe can't be told."""
    titles = {place.volume_id: place.title for place in seen.places or ()}
    mounted = {volume_id: f"volume {name}" for node in seen.nodes for volume_id, name in node.volumes.items()}
    for volume_id, named in mounted.items():
        area = titles.get(volume_id, named)
        yield from disks.judge_writing(area, seen.nodes, volume_id)
        if volume_id not in measured:
            yield from disks.judge_space(area, seen.nodes, volume_id, settings.idle_timeout)


def _books(seen: Vitals) -> Iterator[Finding]:
    if seen.imbalance:
        yield failure(
            Code.BOOKS,
            "books",
            f"{count(seen.imbalance, 'resource')} unaccounted for: {books.told(seen.differences)}",
            "writes were lost, or somebody wrote past sessionsweep; see docs/operations.md: the books differ",
        )
    else:
        yield ok(Code.BOOKS, "books", "they balance: every resource that was registered is accounted for")
    if dead := seen.stats.resources["dead"]:
        yield warning(
            Code.DEAD_LETTERS,
            "books",
            f"{count(dead, 'dead letter')}: failed too often, nobody tries them any more",
            "sessionsweep dead-letters list",
        )
