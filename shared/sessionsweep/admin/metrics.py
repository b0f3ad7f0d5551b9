"""The deployment as Prometheus sees it: one collector that reads the store at each scrape, and keeps nothing.

Ages are seconds by the store's clock, not moments: the monitor's clock may differ. Labels come from configuration
(nodes, volumes) or from fixed sets; what else the store may hold is counted as `other`.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from sessionsweep.admin.desk import Desk
from sessionsweep.admin.problems import UnavailableError
from sessionsweep.errors import SessionSweepError, StoreError
from sessionsweep.model import books
from sessionsweep.model.resource import KINDS
from sessionsweep.model.states import EndReason
from sessionsweep.operator import disks, persistence, verdict, vitals, walks
from sessionsweep.operator.findings import Level
from sessionsweep.operator.places import Place
from sessionsweep.operator.vitals import STATES, Pass, Vitals
from sessionsweep.operator.walks import Walk
from sessionsweep.settings import Settings

R = TypeVar("R")
log = logging.getLogger(__name__)

#: Seconds for the store and for the broker, together below the 10 that Prometheus waits: one that hangs is told of as
#: one that is away.
STORE_PATIENCE, BROKER_PATIENCE = 4.0, 3.0
VOLUME = ("volume", "volume_id")
ALARMS = ("beat", "books", "disk", "marks")
#: What an orphan pass counts, but for what it read.
ORPHANS = ("candidates", "destroyed", "would_destroy", "readopted", "missing", "strangers", "unreadable")
_NAME = re.compile(r"[\w.-]{1,100}\Z", re.ASCII)
_CODE = re.compile(r"[a-z][a-z-]{0,39}\Z")
_HOLDS = ("all", "idle", "server", "volume", "orphans", "mount")
Rows = Iterable[tuple[Sequence[str], float]]


def registry(desk: Desk) -> CollectorRegistry:
    """What `/metrics` shows of one deployment. Make one, and keep it."""
    made = CollectorRegistry(auto_describe=False)
    made.register(Deployment(desk))
    return made


class Deployment(Collector):
    """See the module."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._readers = ThreadPoolExecutor(2, "sessionsweep-metrics")  # more would only wait for what hangs, too

    def collect(self) -> Iterator[Metric]:
        """Reads and tells. A store that is away is told of, too."""
        begun = time.perf_counter()
        yield InfoMetricFamily("sessionsweep_build", "This release.", {"version": version("sessionsweep")})
        yield from _limits(self._desk.settings)
        seen, walked = self._look()
        yield _gauge("store_up", "Whether the store answered this scrape.", seen is not None)
        if seen is not None:
            yield from _of(seen)
            yield from _walked(walked, _names(seen))
            yield from _findings(seen, self._desk.settings)
            yield from self._queues(seen)
        took = time.perf_counter() - begun
        yield _gauge("scrape_duration_seconds", "How long reading the store and the broker took.", took)

    def _look(self) -> tuple[Vitals | None, Mapping[str, Walk]]:
        def read() -> tuple[Vitals, Mapping[str, Walk]]:
            seen = vitals.look(self._desk.core, self._desk.store)
            return seen, walks.last(self._desk.store, seen.now)

        try:
            return self._within(STORE_PATIENCE, read)
        except (StoreError, TimeoutError) as error:
            log.warning("metrics without the store: %s", error or "it hangs")
            return None, {}

    def _queues(self, seen: Vitals) -> Iterator[Metric]:
        ids = sorted(place.volume_id for place in seen.places or () if place.volume_id)
        up = "Whether the broker answered this scrape."
        try:
            lengths = self._within(BROKER_PATIENCE, lambda: self._desk.dispatcher().queue_lengths(ids))
        except UnavailableError:
            return  # nobody takes orders here
        except (SessionSweepError, TimeoutError) as error:
            log.warning("metrics without the broker: %s", error or "it hangs")
            yield _gauge("broker_up", up, 0)
            return
        if lengths:
            yield _gauge("broker_up", up, 1)
            rows = (((queue,), length) for queue, length in lengths.items())
            yield _gauges("queue_messages", "Messages that no worker has taken yet.", ("queue",), rows)

    def _within(self, seconds: float, read: Callable[[], R]) -> R:
        """Raises TimeoutError: it isn't done by then; it ends by its connection's own timeouts."""
        reading = self._readers.submit(read)
        try:
            return reading.result(seconds)
        except TimeoutError:
            reading.cancel()  # where others hang, it need not begin
            raise


def _of(seen: Vitals) -> Iterator[Metric]:
    yield InfoMetricFamily("sessionsweep_store", "The server.", {"version": seen.version, "policy": seen.policy})
    yield _gauge("store_evicts_keys", "Whether the server may drop keys by itself (maxmemory-policy).", seen.evicts)
    yield _gauge("scrape_complete", "Whether all that was read could be understood.", seen.places is not None)
    yield from _memory(seen)
    yield from _persistence(seen)
    yield from _sessions(seen.books)
    yield from _resources(seen.books)
    what = "Resources registered, less all that they became, of each partition and unsigned; 0 is right."
    yield _gauge("books_difference", what, seen.imbalance)
    yield from _pace(seen)
    yield from _volumes(seen.places or ())
    yield from _passes(seen.passes, _names(seen))
    yield from _stops(seen)
    yield from _nodes(seen)


def _memory(seen: Vitals) -> Iterator[Metric]:
    if seen.memory is None:
        return
    yield _gauge("store_memory_used_bytes", "The server's memory in use.", seen.memory.used)
    if seen.memory.limit:
        yield _gauge("store_memory_limit_bytes", "Its maxmemory; absent: none is set.", seen.memory.limit)


def _persistence(seen: Vitals) -> Iterator[Metric]:
    if seen.unwritten is None:
        return
    rows = (((name,), name in seen.unwritten) for name in persistence.FILES)
    what = "Whether the server failed to write its AOF, or its last snapshot: it takes no writes then."
    yield _gauges("store_write_failed", what, ("file",), rows)


def _findings(seen: Vitals, settings: Settings) -> Iterator[Metric]:
    """What the dashboard's first page and doctor make of the same."""
    counted = Counter((one.code, one.level) for one in verdict.judge(seen, settings))
    rows = ((at, number) for at, number in counted.items() if at[1] is not Level.OK)
    what = "What the dashboard and sessionsweep doctor find, by what it is and how grave."
    yield _gauges("findings", what, ("code", "level"), rows)


def _sessions(n: Mapping[str, int]) -> Iterator[Metric]:
    created, ended = n.get(books.CREATED, 0), n.get(books.ENDED, 0)
    yield _gauge("sessions_active", "Sessions that haven't ended; those due wait for the next sweep.", created - ended)
    yield _counter("sessions_created", "Sessions begun.", created)
    reasons = {str(reason): n.get(f"{books.ENDED}:{reason}", 0) for reason in EndReason}
    rows = (((reason,), count) for reason, count in reasons.items())
    yield _counters("sessions_ended", "Sessions ended, by reason.", ("reason",), rows)
    lasted = SummaryMetricFamily("sessionsweep_session_duration_seconds", "How long ended sessions lasted.")
    lasted.add_metric([], ended, n.get(books.LIFETIME, 0) / 1000)
    yield lasted


def _resources(n: Mapping[str, int]) -> Iterator[Metric]:
    states = {"active": books.ACTIVE, "owed": books.OWED, "dead": books.DEAD}
    rows = [((state,), n.get(name, 0)) for state, name in states.items()]
    yield _gauges("resources", "Resources by state: a session's, owed to be deleted, dead letters.", ("state",), rows)
    yield _counter("resources_registered", "Resources that sessions came to own.", n.get(books.REGISTERED, 0))
    rows = [((kind,), n.get(f"{books.REGISTERED}:{letter}", 0)) for kind, letter in KINDS.items()]
    yield _counters("resources_registered_by_kind", "The same by kind.", ("kind",), rows)
    yield _gauge("streams_open", "Streams that live sessions have open.", max(0, n.get(books.STREAMS, 0)))
    outcomes = (books.DELETED, books.GONE, books.PROMOTED, books.FORGOTTEN)
    rows = [((outcome,), n.get(outcome, 0)) for outcome in outcomes]
    yield _counters("resources_closed", "Resources that are no session's any more, by outcome.", ("outcome",), rows)
    yield _counter("resources_evicted", "Resources that a session's limits pushed out.", n.get(books.EVICTED, 0))
    rows = [(("active",), n.get(books.ACTIVE_BYTES, 0)), (("owed",), n.get(books.OWED_BYTES, 0))]
    yield _gauges("resource_bytes", "Bytes of resources by state.", ("state",), [(at, max(0, v)) for at, v in rows])
    yield _counter("resource_deleted_bytes", "Bytes of resources that were deleted.", n.get(books.DELETED_BYTES, 0))
    yield _counter("orphans_destroyed", "Files without an owner that were destroyed.", n.get("orphans", 0))
    yield _counter("orphans_destroyed_bytes", "Bytes of those files.", n.get("b_orphans", 0))


def _pace(seen: Vitals) -> Iterator[Metric]:
    """Whether passes keep up, and who sends them."""
    what = "Since when the session that is looked at first could have been swept; 0: not yet."
    yield _gauge("sweep_lag_seconds", what, seen.sweep_late_seconds)
    oldest = max((place.debt.oldest_seconds for place in seen.places or ()), default=0.0)
    what = "Since when the oldest owed resource's session has ended, of what was looked at; 0: nothing is owed."
    yield _gauge("oldest_owed_seconds", what, oldest)
    for name, what, ago in (
        ("last_sweep_age_seconds", "Since the last sweep of any worker; absent: never.", seen.last_sweep_seconds_ago),
        ("last_beat_age_seconds", "Since a beat was seen; absent: never.", seen.beat_seconds_ago),
    ):
        if ago is not None:
            yield _gauge(name, what, ago)


def _volumes(places: Sequence[Place]) -> Iterator[Metric]:
    told: dict[str, tuple[str, Callable[[Place], float]]] = {
        "owing_sessions": ("Ended sessions that owe something there.", lambda p: p.debt.sessions),
        "due_seconds": ("For how long what is due first has been; 0: nothing is.", lambda p: p.debt.late_seconds),
        "owed_resources": ("Resources owed there, as far as looked at.", lambda p: p.debt.owed),
        "owed_bytes": ("Their bytes.", lambda p: p.debt.bytes),
        "oldest_owed_seconds": ("Since when the oldest is owed.", lambda p: p.debt.oldest_seconds),
        "failing_resources": ("Owed there, tried, and failed.", lambda p: p.debt.failing),
        "in_use_resources": ("Owed there, and locked or pinned when last tried.", lambda p: p.debt.in_use),
        "debt_complete": ("Whether all that is owed there was looked at.", lambda p: p.debt.is_complete),
        "workers": ("Live workers that mount it.", lambda p: sum(w.alive and w.mounts for w in p.workers)),
        "problems": ("What keeps it from being cleaned or written: see sessionsweep stats.", lambda p: len(p.problems)),
    }
    volumes = [place for place in places if place.volume_id]
    for name, (what, value) in told.items():
        rows = (((place.name, place.volume_id), value(place)) for place in volumes)
        yield _gauges(f"volume_{name}", what, VOLUME, rows)
    rest = [place for place in places if not place.volume_id]  # a name for each incarnation of a process
    owing = sum(place.debt.sessions for place in rest)
    yield _gauge("stream_owing_sessions", "Ended sessions whose streams are still to be closed.", owing)
    late = max((place.debt.late_seconds for place in rest), default=0.0)
    yield _gauge("stream_due_seconds", "For how long the first of those has been due.", late)


def _walked(walked: Mapping[str, Walk], names: Mapping[str, str]) -> Iterator[Metric]:
    told = [((names[id_], id_), walk) for id_, walk in sorted(walked.items()) if id_ in names]
    what = "Files on it, as the last whole orphan walk found them."
    yield _gauges("volume_files", what, VOLUME, ((at, walk.files) for at, walk in told))
    yield _gauges("volume_file_bytes", "Bytes of those files.", VOLUME, ((at, walk.bytes) for at, walk in told))
    what = "Since that walk ended."
    yield _gauges("volume_walk_age_seconds", what, VOLUME, ((at, walk.seconds_ago) for at, walk in told))


def _passes(passes: Sequence[Pass], names: Mapping[str, str]) -> Iterator[Metric]:
    labels = ("task", *VOLUME)
    told = [((run.task, names.get(run.volume_id, ""), run.volume_id), run) for run in passes]
    yield _gauges(
        "pass_age_seconds", "Since the last run of a task.", labels, ((at, run.seconds_ago) for at, run in told)
    )
    took = ((at, float(run.result["seconds"])) for at, run in told if "seconds" in run.result)
    yield _gauges("pass_duration_seconds", "How long its last run took.", labels, took)
    rows = (((*at, state), run.state == state) for at, run in told for state in STATES)
    yield _gauges("pass_state", "1 for the state of its last run.", (*labels, "state"), rows)
    looked = [(at[1:], run) for at, run in told if run.task == "sweep_orphans" and run.volume_id]
    rows_ = (((*at, kind), run.result.get(kind, 0)) for at, run in looked for kind in ORPHANS)
    yield _gauges("orphans", "What the last orphan pass over a volume found.", (*VOLUME, "kind"), rows_)


def _stops(seen: Vitals) -> Iterator[Metric]:
    names = _names(seen)
    counted = Counter((_kind(hold.scope), _code(hold.reason), *_where(hold.scope, names)) for hold in seen.holds)
    what = "What stops destruction, and where: see sessionsweep holds list."
    yield _gauges("holds", what, ("kind", "reason", "node", "volume"), counted.items())
    kinds = (alarm.scope.partition(":")[0] for alarm in seen.alarms)  # one of a disk names it behind a colon
    raised = Counter(kind if kind in ALARMS else "other" for kind in kinds)
    rows = (((alarm,), raised[alarm]) for alarm in (*ALARMS, "other"))
    yield _gauges("alarms", "What workers raised an alarm about.", ("alarm",), rows)


def _nodes(seen: Vitals) -> Iterator[Metric]:
    what = "Whether a node's worker beats (30 s of silence, and it doesn't)."
    yield _gauges("node_up", what, ("node",), (((node.name,), node.alive) for node in seen.nodes))
    ages = (((node.name,), node.seen_seconds_ago) for node in seen.nodes if node.readable)
    yield _gauges("node_heartbeat_age_seconds", "Since its worker's last heartbeat.", ("node",), ages)
    names = _names(seen)
    spaces = [
        ((node.name, names.get(id_) or node.volumes[id_], id_), space)
        for node in seen.nodes
        for id_, space in node.space.items()
        if node.alive and id_ in node.volumes
    ]
    labels = ("node", *VOLUME)
    written = [
        ((node.name, names.get(id_) or name, id_), id_ in node.unwritable)
        for node in seen.nodes
        for id_, name in node.volumes.items()
        if node.alive and not disks.is_full_rather(node, id_)  # one fault, one alert
    ]
    what = "Whether a node's worker could not write to a volume; absent where that is for its disk is full."
    yield _gauges("volume_unwritable", what, labels, written)
    yield _gauges("disk_used_bytes", "Of a volume's disk, by whoever.", labels, ((at, s.used) for at, s in spaces))
    yield _gauges("disk_free_bytes", "Of a volume's disk, to write.", labels, ((at, s.free) for at, s in spaces))


def _limits(s: Settings) -> Iterator[Metric]:
    """As this process was told; 0 or absent: no limit."""
    limits = {
        "limit_sessions": ("MAX_SESSIONS.", s.max_sessions),
        "limit_sessions_per_user": ("MAX_SESSIONS_PER_USER.", s.max_sessions_per_user),
        "limit_resources_per_session": ("MAX_RESOURCES_PER_SESSION.", s.max_resources_per_session),
        "limit_bytes_per_session": ("MAX_BYTES_PER_SESSION.", s.max_bytes_per_session),
        "limit_streams_per_session": ("MAX_STREAMS_PER_SESSION.", s.max_streams_per_session),
    }
    for name, (what, value) in limits.items():
        if value:
            yield _gauge(name, what, value)
    yield _gauge("cleanup_interval_seconds", "CLEANUP_INTERVAL: how often a sweep is due.", s.cleanup_interval)


def _names(seen: Vitals) -> dict[str, str]:
    return {place.volume_id: place.name for place in seen.places or () if place.volume_id}


def _kind(scope: str) -> str:
    kind = scope.partition(":")[0]
    return kind if kind in _HOLDS else "other"


def _where(scope: str, names: Mapping[str, str]) -> tuple[str, str]:
    """(node, volume) by name, as far as the scope names them: that of a mount both, that of a volume its id."""
    kind, _, rest = scope.partition(":")
    node, _, name = rest.partition("/")
    if kind == "mount" and _NAME.match(node) and _NAME.match(name):
        return node, name
    return "", names.get(rest, "")


def _code(reason: str) -> str:
    return reason if _CODE.match(reason) else "other"


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(f"sessionsweep_{name}", what, float(value))


def _gauges(name: str, what: str, labels: Sequence[str], rows: Rows) -> Metric:
    family = GaugeMetricFamily(f"sessionsweep_{name}", what, labels=labels)
    for at, value in rows:
        family.add_metric(at, float(value))
    return family


def _counter(name: str, what: str, value: float) -> Metric:
    return CounterMetricFamily(f"sessionsweep_{name}", what, max(0.0, float(value)))


def _counters(name: str, what: str, labels: Sequence[str], rows: Rows) -> Metric:
    family = CounterMetricFamily(f"sessionsweep_{name}", what, labels=labels)
    for at, value in rows:
        family.add_metric(at, max(0.0, float(value)))
    return family
