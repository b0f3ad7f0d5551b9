"""Trends: snapshots of the books, written once by whoever comes first; their differences add up to the work done."""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from sessionsweep import Session, Sessions, Settings
from sessionsweep.engine.inprocess import InProcessSweeper
from sessionsweep.engine.reclaim import Reclaim
from sessionsweep.engine.trend import Trend
from sessionsweep.engine.upkeep import Upkeep
from sessionsweep.errors import StoreUnavailableError
from sessionsweep.model import books
from sessionsweep.model.snapshots import COUNTERS, ENDED_BY, Snapshot, Step, read
from sessionsweep.model.states import EndReason
from sessionsweep.operator.trends import Trends, between, trends
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.memory import MemoryStore
from sessionsweep.store.operations import Operation
from sessionsweep.store.redis.sync import RedisStore
from support.nodes import KEY, Node
from support.processes import wait_until

DAY = 86_400


class World:
    """A deployment whose sessions nothing ends but the test, and a ledger of all that was done in it."""

    def __init__(self, url: str, root: Path, partitions: int = 1) -> None:
        namespace = f"t{secrets.token_hex(4)}"
        self.store: Any = MemoryStore() if url == "memory://" else RedisStore(url, namespace, test_clock=True)
        self.store.freeze(1_700_000_000_000)
        settings = Settings(
            redis_url=url, namespace=namespace, node="a", volumes=f"a={root / namespace}", secret_key=KEY,
            idle_timeout=400 * DAY, max_duration=0, grace_period=0, cleanup_interval=1, partitions=partitions,
        )  # fmt: skip
        self.sessions = Sessions(settings, store=self.store)
        self.core = self.sessions.core
        self.core.background = False
        self.reclaim = Reclaim(self.core, self.store)
        self.trend = Trend(self.core, self.store)
        self.done: Counter[str] = Counter()
        self.alive: list[Session] = []
        self.elapsed, self.has_volume = 0, True
        run(self.core.mounts.mount(), self.store)

    def now(self) -> int:
        now: int = self.store.execute(op.Facts()).now
        return now

    def snapshot(self) -> int:
        return self.trend.run_once(self.now())

    def create(self, number: int) -> None:
        self.alive += [self.sessions.create()[0] for _ in range(number)]
        self.done[books.CREATED] += number

    def write(self, size: int) -> None:
        if self.alive and self.has_volume:
            with self.alive[-1].new_file() as f:
                f.write(b"x" * size)
            self.done[books.REGISTERED] += 1

    def end(self, reason: str) -> None:
        if self.alive:
            session = self.alive.pop()
            lived = self.now() - round(session.created_at.timestamp() * 1000)
            session.end(reason)
            self.done.update({books.ENDED: 1, ENDED_BY[EndReason(reason)]: 1, books.LIFETIME: lived})

    def clean(self, _: object = None) -> None:
        if not self.has_volume:
            return
        cleaned = self.reclaim.run_once()
        self.done.update({books.DELETED: cleaned.deleted, books.DELETED_BYTES: cleaned.bytes})

    def advance(self, seconds: int) -> None:
        self.elapsed += seconds
        self.store.advance(seconds * 1000)

    def emptied(self) -> World | None:
        """What a FLUSHALL does; what runs goes on. None: this store goes only with its process."""
        if isinstance(self.store, MemoryStore):
            return None
        with redis.Redis.from_url(self.core.settings.redis_url) as server:
            for key in server.scan_iter(f"{self.core.settings.namespace}:*", 1000):
                if b":test:" not in key:  # the clock stays
                    server.delete(key)
        self.has_volume, self.alive = False, []  # a hold on it: that Redis is another one
        return self

    def told(self, step: Step = Step.HOUR) -> Trends:
        return trends(self.core, self.store, step)

    def total(self, step: Step = Step.HOUR) -> Counter[str]:
        return total(self.told(step))

    def close(self) -> None:
        self.sessions.close()


def total(found: Trends) -> Counter[str]:
    return Counter({field: n for field, n in (found.whole.done.items() if found.whole else ()) if n})


@pytest.fixture(params=["memory", "redis"])
def make_world(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    with ExitStack() as stack:

        def make(**options: Any) -> World:
            world = World(url, tmp_path, **options)
            stack.callback(world.close)
            return world

        yield make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


WORK = st.one_of(
    st.tuples(st.just("create"), st.integers(1, 3)),
    st.tuples(st.just("write"), st.integers(1, 5000)),
    st.tuples(st.just("end"), st.sampled_from(["logout", "user", "admin"])),
    st.tuples(st.just("clean"), st.none()),
    st.tuples(st.just("advance"), st.one_of(st.integers(1, 200), st.integers(1, 2 * DAY))),
    st.tuples(st.just("snapshot"), st.none()),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("empty"), st.none()),
)


@pytest.mark.parametrize("partitions", [1, 3])
def test_what_the_periods_tell_adds_up_to_what_was_done(make_world: Callable[..., World], partitions: int) -> None:
    @settings(max_examples=25, deadline=None)
    @given(st.lists(WORK, min_size=3, max_size=25))
    def holds(work: Sequence[tuple[str, Any]]) -> None:
        world = make_world(partitions=partitions)
        first: Counter[str] | None = None  # the ledger at the first snapshot
        elapsed = 0
        for what, how in work:
            match what:
                case "snapshot":
                    world.snapshot()
                    if first is None:
                        first, elapsed = world.done.copy(), world.elapsed
                case "restart":
                    world.trend = Trend(world.core, world.store)  # of another process
                case "empty":
                    first = None
                    world = world.emptied() or make_world(partitions=partitions)
                case _:
                    getattr(world, what)(how)
        for step in Step:
            found = world.told(step)
            assert all(n >= 0 for one in found.periods for n in (*one.done.values(), *one.stands.values()))
            assert [one.since for one in found.periods[1:]] == [one.until for one in found.periods[:-1]]
            if first is None:
                assert found.periods == ()
            elif (world.elapsed - elapsed) * 1000 < step.ms * step.kept:
                assert total(found) == world.done - first, step
                assert not any(one.restarted for one in found.periods)

    holds()


class Counted:
    """A store that notes what it is asked for, and may refuse one thing."""

    refused: Operation[Any] | None = None

    def __init__(self, store: Any) -> None:
        self._store = store
        self.asked: list[Operation[Any]] = []

    def execute(self, operation: Operation[Any]) -> Any:
        self.asked.append(operation)
        return self._store.execute(operation)

    def execute_many(self, operations: Sequence[Operation[Any]]) -> Any:
        self.asked += operations
        answers = self._store.execute_many(operations)
        refusal = StoreUnavailableError("it is away")
        return [refusal if one == self.refused else got for one, got in zip(operations, answers, strict=True)]


def test_a_missed_snapshot_joins_two_periods(world: World) -> None:
    world.snapshot()
    for created in (1, 2, 3):
        world.create(created)
        world.advance(60)
        if created != 2:
            world.snapshot()
    found = world.told(Step.MINUTE)
    assert [(one.seconds, one.done[books.CREATED]) for one in found.periods] == [(60, 1), (120, 5)]
    world.create(1)
    world.advance(5)
    last = world.told(Step.MINUTE).periods[-1]
    assert (last.seconds, last.done[books.CREATED], last.complete) == (5, 1, False)


def test_counters_that_went_back_begin_anew(world: World) -> None:
    world.create(5)
    world.snapshot()
    world.create(4)
    lost = {field: -n for field, n in world.store.execute(op.Counters("00")).items() if field == books.CREATED}
    world.store.execute(op.Count("00", lost))
    world.create(2)
    world.advance(3600)
    world.snapshot()
    world.create(3)
    world.advance(3600)
    world.snapshot()
    found = world.told().periods
    assert [(one.done[books.CREATED], one.restarted) for one in found] == [(0, True), (3, False)]
    assert world.told().whole is not None
    assert world.told().whole.restarted  # type: ignore[union-attr]


def test_an_emptied_store_begins_within_a_minute(world: World) -> None:
    world.snapshot()
    if world.emptied() is None:
        return
    world.advance(60)
    world.snapshot()  # the process goes on, and had written this hour and day already
    world.create(3)
    for step in Step:
        assert world.total(step) == Counter({books.CREATED: 3}), step


def test_a_partition_that_does_not_answer_is_no_loss(make_world: Callable[..., World]) -> None:
    world = make_world(partitions=2)
    store: Any = Counted(world.store)
    store.refused = op.Counters("01")
    for ask in (lambda: Trend(world.core, store).run_once(world.now()), lambda: trends(world.core, store, Step.HOUR)):
        with pytest.raises(StoreUnavailableError):
            ask()
    assert world.told().periods == ()
    assert world.store.execute(op.Table(Step.MINUTE.table)) == {}


def test_whoever_comes_late_changes_nothing(world: World) -> None:
    now = world.now()
    assert world.snapshot() == 3
    before = [world.store.execute(op.Table(step.table)) for step in Step]
    world.create(7)
    world.advance(61)  # the lease is over
    late = Trend(world.core, world.store)
    assert late.run_once(now) == 0, "it was slow: its minute is another's by now"
    assert [world.store.execute(op.Table(step.table)) for step in Step] == before


def test_two_writers_at_once_write_one_snapshot(make_world: Callable[..., World]) -> None:
    world = make_world()
    for _ in range(5):
        now = world.now()
        start = threading.Barrier(4)
        written: list[int] = []

        def write(now: int = now, start: threading.Barrier = start, written: list[int] = written) -> None:
            writer = Trend(world.core, world.store)
            start.wait(20)
            written.append(writer.run_once(now))

        writers = [threading.Thread(target=write) for _ in range(4)]
        for one in writers:
            one.start()
        for one in writers:
            one.join(20)
        assert sorted(written) == [0, 0, 0, 3]
        world.advance(DAY)
    assert len(world.store.execute(op.Table(Step.DAY.table))) == 5


def test_they_cost_the_same_at_any_number_of_sessions(make_world: Callable[..., World]) -> None:
    def commands(sessions: int) -> tuple[int, int, int]:
        world = make_world(partitions=2)
        world.create(sessions)
        store: Any = Counted(world.store)
        Trend(world.core, store).run_once(world.now())
        written = len(store.asked)
        Trend(world.core, store).run_once(world.now())
        spared = len(store.asked)
        trends(world.core, store, Step.HOUR)
        return written, spared - written, len(store.asked) - spared

    assert commands(0) == commands(40)
    assert commands(0)[1] == 1, "a minute that another process takes care of costs one command"


def test_little_is_kept(tmp_path: Path) -> None:
    world = World("memory://", tmp_path)
    world.store.execute(op.Count("00", {field: 10**9 + at for at, field in enumerate(COUNTERS)}))  # a large deployment
    world.store.execute(op.Count("00", {books.ACTIVE: 10**7, books.ACTIVE_BYTES: 10**13, books.OWED_BYTES: 10**12}))
    for seconds, rounds in ((60, 250), (DAY, 402)):
        for _ in range(rounds):
            world.advance(seconds)
            world.snapshot()
    for seconds, rounds in ((3600, 14 * 24 + 1), (60, 250)):  # as it is after a long time of one snapshot a minute
        for _ in range(rounds):
            world.advance(seconds)
            world.snapshot()
    tables = {step: world.store.execute(op.Table(step.table)) for step in Step}
    assert all(len(tables[step]) <= most for step, most in MOST.items())
    size = sum(len(row) + len(text) for rows in tables.values() for row, text in rows.items())
    assert size < 300_000, size
    assert [len(read(tables[step], step, world.now())) for step in Step][1:] == [14 * 24 + 1, 401]
    world.close()


MOST = {Step.MINUTE: 4 * 60 + 1, Step.HOUR: 15 * 24 + 1, Step.DAY: 402}


def test_peaks_between_two_snapshots_are_kept(world: World) -> None:
    world.snapshot()
    world.create(5)
    world.advance(1800)
    world.snapshot()
    for _ in range(5):
        world.end("logout")
    assert world.told().periods[-1].peaks["sessions"] == 5, "of the hour that still runs"
    world.advance(1800)
    world.snapshot()
    (hour,) = world.told().periods  # nothing was done since
    assert (hour.stands["sessions"], hour.peaks["sessions"], hour.complete) == (0, 5, True)
    world.advance(DAY)
    world.snapshot()
    assert world.told(Step.DAY).periods[0].peaks["sessions"] == 5
    assert world.told(Step.HOUR).periods[-1].peaks["sessions"] == 0


@pytest.mark.parametrize(
    "junk", ["", "no json", "[]", "7", '{"at":1}', "[1e99,[],[],[]]", "[-5,[],[],[]]", '["x",[],[],[]]', "[" * 9000]
)
def test_rows_that_are_none_of_ours_are_passed_over(world: World, junk: str) -> None:
    world.snapshot()
    world.create(2)
    world.advance(60)
    world.snapshot()
    here, minute = Step.MINUTE.number(world.now()), Step.MINUTE.table
    ahead = Snapshot.of(world.now() + 10**9, {books.CREATED: 10**6}).encode()
    elsewhere = Snapshot.of(world.now() - 10_000, {books.CREATED: 10**6}).encode()
    rows = {
        str(here - 4): elsewhere,
        "x": junk,
        str(here - 2): junk,
        str(here - 3): ahead,
        str(here + 200): ahead,
        "9" * 30: ahead,
        "-1": ahead,
    }
    for row, text in rows.items():
        world.store.execute(op.TablePut(minute, row, text))
    assert total(world.told(Step.MINUTE)) == Counter({books.CREATED: 2})
    world.advance(3600)
    world.snapshot()
    assert {"x", str(here + 200), "9" * 30, "-1"}.isdisjoint(world.store.execute(op.Table(minute)))


def test_a_snapshot_is_read_back_as_it_was_written() -> None:
    taken = Snapshot.of(1_700_000_000_000, {books.CREATED: 7, books.ENDED: 3, "ended:idle": 3, books.ACTIVE_BYTES: 9})
    back = Snapshot.decode(taken.after([taken]).encode())
    assert back is not None
    assert (back.sums["sessions"], back.peak("sessions"), back.peak(books.ACTIVE_BYTES)) == (4, 4, 9)
    assert not any(between(taken, back).done.values())
    stored = "[1700000000000,[12,5,90000,0,0,0,0,0,0,0,0,0,3,0,2],[7],[9,1]]"  # as the first release wrote it
    read_back = Snapshot.decode(stored)
    assert read_back is not None
    assert read_back.encode() == stored
    assert (read_back.sums["ended:idle"], read_back.sums["ended:logout"], read_back.peak("sessions")) == (3, 2, 9)
    later = Snapshot.decode('[1700000000000,[12,"x",-1' + ",0" * 90 + "],[7,8,9,10,11,12,13],[],{}]")
    assert later is not None
    assert (later.sums[books.CREATED], later.sums[books.ENDED], later.sums[books.DEAD]) == (12, 0, 12)


@pytest.mark.parametrize("mode", ["enforce", "observe"])
def test_upkeep_writes_them_in_every_mode(make_node: Callable[..., Node], mode: str) -> None:
    node = make_node(mode=mode)
    node.upkeep.run_once()
    session, _ = node.sessions.create()
    session.end()
    node.advance(60)
    Upkeep(node.core, node.store).run_once()
    done = trends(node.core, node.store, Step.MINUTE).periods[0].done
    assert (done[books.CREATED], done["ended:logout"]) == (1, 1)


def test_the_in_process_sweeper_writes_them(tmp_path: Path) -> None:
    sessions = Sessions(Settings(redis_url="memory://", volumes=f"a={tmp_path / 'a'}", cleanup_interval=0.1))
    sweeper = InProcessSweeper(sessions.core, sessions.store)
    sweeper.ensure()
    try:
        wait_until(lambda: trends(sessions.core, sessions.store, Step.DAY).periods, what="a snapshot is there")
    finally:
        sweeper.stop()
        sessions.close()
