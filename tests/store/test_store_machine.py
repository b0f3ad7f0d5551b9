"""The Redis store held against the in-memory one: the same random operations, every reply and all books compared."""

from __future__ import annotations

import os
import secrets
from typing import Any, ClassVar

import pytest
from driving import GRACE, IDLE, LONGEST, WIDTH, MemorySubject, P, RedisSubject, Subject
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from sessionsweep.model.books import imbalance
from sessionsweep.model.session import FLAG_TOTAL_BOOK, FLAG_USER_BOOK
from sessionsweep.model.states import EndReason, Outcome
from sessionsweep.store import operations as op

SESSIONS = [f"{P}{letter * 18}" for letter in "abcd"]
PLACES = ["v.disk0", "v.disk1", "p.web"]
USERS = ["ana", "bob"]
ALIASES = ["a" * 32, "b" * 32]
MACS = [letter * 16 for letter in (b"1", b"2")]
TOKENS = ["job-1", "job-2", "job-3"]
FOREVER = 10**12  # what Redis counts by its own clock must not run out: no test moves that one

SIGHTED = 90_000  # one sighting's time runs out by the tests' clock, the whole list's by the server's: not in a test

session_ids = st.sampled_from(SESSIONS)
numbers = st.integers(0, 5)
places = st.sampled_from(PLACES)
users = st.sampled_from([*USERS, None])
macs = st.sampled_from(MACS)
sizes = st.sampled_from([0, 1, 40, 100])
delays = st.sampled_from([0, 1, 1000, 60_000])
booleans = st.booleans()


def resource_id(session_id: str, number: int) -> str:
    """The ids of different sessions' resources differ, as they do in life."""
    return f"{session_id[2] * 15}{number}"


def comparable(reply: Any) -> Any:
    """The reply without what is nobody's promise: the order inside a set of records."""
    match reply:
        case op.Opened(status=op.OpenStatus.INVALID):
            return reply.status
        case op.EventPage():
            return [(one.name, one.session_id, one.resource_id, dict(one.fields)) for one in reply.events]
        case op.Leased():
            entries = tuple((sid, sorted(found, key=lambda one: one.resource_id)) for sid, found in reply.entries)
            return entries, reply.next_due, reply.now
        case dict():
            return {name: value for name, value in reply.items() if value != 0}
        case tuple() if reply and isinstance(reply[0], op.QueueDepth):
            return sorted(reply, key=lambda depth: depth.location)
        case tuple() if reply and hasattr(reply[0], "resource_id"):
            return sorted(reply, key=lambda one: one.resource_id)
        case _:
            return reply


class StoreMachine(RuleBasedStateMachine):
    """One step = one operation, carried out by both stores at the same frozen time."""

    url: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.memory = MemorySubject()
        self.redis = RedisSubject(self.url, f"m{secrets.token_hex(5)}")
        self.stores: tuple[Subject, ...] = (self.memory, self.redis)
        self.cursors = ["", ""]
        self.leases = 0
        self.lost: set[str] = set()

    def teardown(self) -> None:
        for store in self.stores:
            store.close()

    def both(self, operation: op.Operation[Any]) -> Any:
        """Carries it out on both; the replies must agree."""
        replies = [store.do(operation) for store in self.stores]
        memory, redis = (comparable(reply) for reply in replies)
        assert memory == redis, f"{operation}\n  memory: {replies[0]}\n  redis:  {replies[1]}"
        return replies[0]

    @invariant()
    def same_state(self) -> None:
        """Sessions, records, books, queues and the wheel agree, and the books balance."""
        reads: list[op.Operation[Any]] = [op.Counters(P), op.Queues(P), op.OutboxRead(P), op.DeadLetters(P)]
        reads += [op.ListWheel(P, limit=10_000)]
        events = [store.do(op.Events(P, cursor)) for store, cursor in zip(self.stores, self.cursors, strict=True)]
        assert comparable(events[0]) == comparable(events[1]), "the same events, in the same order"
        self.cursors = [page.last for page in events]
        back = [
            store.do(op.EventsBefore(P, cursor, 5)) for store, cursor in zip(self.stores, self.cursors, strict=True)
        ]
        assert comparable(back[0]) == comparable(back[1]), "and backwards"
        for session_id in SESSIONS:
            reads += [op.PeekSession(session_id), op.ListResources(session_id), op.LiveResources(session_id)]
        memory, redis = (store.many(reads) for store in self.stores)
        for read, one, other in zip(reads, memory, redis, strict=True):
            assert comparable(one) == comparable(other), f"{read}\n  memory: {one}\n  redis:  {other}"
        assert imbalance(memory[0]) == 0, memory[0]
        assert self.memory.queue_times(PLACES) == self.redis.queue_times(PLACES)

    @rule(
        milliseconds=st.sampled_from(
            [1, 999, 1000, 9_000, WIDTH, GRACE, 60_000, 100_000, IDLE - 1, IDLE, LONGEST, -700]
        )
    )
    def wait(self, milliseconds: int) -> None:
        self.advance(milliseconds)

    def advance(self, milliseconds: int) -> None:
        """Moves both clocks."""
        for store in self.stores:
            store.advance(milliseconds)

    @initialize(idle=st.sampled_from([60_000, IDLE]), longest=st.sampled_from([0, LONGEST]))
    def begin(self, idle: int, longest: int) -> None:
        """Something to work on: otherwise most operations find nothing."""
        for index, sid in enumerate(SESSIONS[:3]):
            self.both(op.CreateSession(sid, MACS[index % 2], idle, longest, WIDTH, user=[None, *USERS][index % 3]))
            for number in range(index):
                self.both(
                    op.Register(sid, resource_id(sid, number), "f", PLACES[number % 2], 40, intent_timeout=60_000)
                )
                if number != 1:
                    self.both(op.Commit(sid, resource_id(sid, number), 40))

    # --- sessions

    @rule(
        sid=session_ids, mac=macs, user=users, idle=st.sampled_from([60_000, IDLE]),
        longest=st.sampled_from([0, 100_000, LONGEST]), booked=booleans, alias=st.sampled_from(["", "", *ALIASES]),
        late=st.sampled_from([0, 0, 0, -1, 0, 1]), family=st.sampled_from([0, 4, 6]), grace=st.sampled_from([0, GRACE]),
    )  # fmt: skip
    def create(
        self, sid: str, mac: bytes, user: str | None, idle: int, longest: int, booked: bool, alias: str, late: int,
        family: int, grace: int,
    ) -> None:  # fmt: skip
        if sid in self.lost:
            return  # ids are never used twice; no store could know of one whose every trace was lost
        self.both(
            op.CreateSession(
                sid, mac, idle, longest, WIDTH, family, b"abc", (FLAG_USER_BOOK | FLAG_TOTAL_BOOK) * booked, user,
                alias, None, "agent" if booked else None, "", {"k": b"v"} if booked else {},
                self.memory.now + late if late else 0, grace,
            )
        )  # fmt: skip

    @rule(
        sid=session_ids, mac=macs, touch=booleans, family=st.sampled_from([0, 4, 6]),
        fingerprint=st.sampled_from([b"abc", b"xyz"]), enforce=booleans, hold=st.sampled_from([0, 60_000]),
    )  # fmt: skip
    def open(
        self, sid: str, mac: bytes, touch: bool, family: int, fingerprint: bytes, enforce: bool, hold: int
    ) -> None:
        self.both(op.OpenSession(sid, (mac,), touch, family, fingerprint, enforce, GRACE, hold))

    @rule(sid=session_ids)
    def open_surely(self, sid: str) -> None:
        self.both(op.OpenSession(sid, tuple(MACS), grace=GRACE))

    @rule(sid=session_ids, old=macs, new=macs, user=users, trusted=booleans, flags=st.sampled_from([0, FLAG_USER_BOOK]))
    def rotate(self, sid: str, old: bytes, new: bytes, user: str | None, trusted: bool, flags: int) -> None:
        self.both(op.RotateSession(sid, () if trusted else (old,), new, user, flags if user else 0))

    @rule(
        sid=session_ids, idle=st.sampled_from([None, 5_000, IDLE]), longest=st.sampled_from([None, 0, 50_000, LONGEST])
    )
    def extend(self, sid: str, idle: int | None, longest: int | None) -> None:
        self.both(op.ExtendSession(sid, idle, longest, WIDTH))

    @rule(
        sid=session_ids, changes=st.dictionaries(st.sampled_from("kxy"), st.sampled_from([None, b"", b"1\0"])),
        mac=st.one_of(st.just(b""), macs), renew=booleans, idle=st.sampled_from([None, 5_000, IDLE]),
        longest=st.sampled_from([None, 0, 50_000]),
    )  # fmt: skip
    def save(
        self, sid: str, changes: dict[str, bytes | None], mac: bytes, renew: bool, idle: int | None, longest: int | None
    ) -> None:
        self.both(op.SaveData(sid, changes, mac, renew, idle, longest, WIDTH))

    @rule(
        sid=session_ids, reason=st.sampled_from(["idle", "expired", "logout", "admin"]), only_due=booleans,
        grace=st.sampled_from([0, GRACE]), hold=st.sampled_from([0, 60_000]), idle_for=st.sampled_from([0, 0, 30_000]),
    )  # fmt: skip
    def end(self, sid: str, reason: str, only_due: bool, grace: int, hold: int, idle_for: int) -> None:
        self.both(op.EndSession(sid, EndReason(reason), only_due, grace, hold, idle_for))

    @rule(
        sid=session_ids, token=st.sampled_from(TOKENS), duration=st.sampled_from([1, 60_000, 2 * LONGEST]),
        number=st.sampled_from([None, None, 0, 1, 2]),
    )  # fmt: skip
    def defer(self, sid: str, token: str, duration: int, number: int | None) -> None:
        about = "" if number is None else resource_id(sid, number)
        self.both(op.Defer(sid, token, duration, about, WIDTH))

    @rule(
        sid=session_ids, tokens=st.lists(st.sampled_from(TOKENS), max_size=3, unique=True), number=numbers,
        duration=st.sampled_from([1000, 60_000, 2 * LONGEST]), wait=st.sampled_from([0, 60_000, IDLE, LONGEST]),
        reason=st.sampled_from(["idle", "expired", "logout"]),
    )  # fmt: skip
    def outlive(self, sid: str, tokens: list[str], number: int, duration: int, wait: int, reason: str) -> None:
        """Jobs that outlive their session, and one that lets go then."""
        for index, token in enumerate(tokens):
            self.both(
                op.Defer(sid, token, duration * (index + 1), resource_id(sid, number) if index == 1 else "", WIDTH)
            )
        self.advance(wait)
        self.both(op.EndSession(sid, EndReason(reason), grace=GRACE))
        if tokens:
            self.both(op.Undefer(sid, tokens[0], WIDTH))

    @rule(sid=session_ids, token=st.sampled_from(TOKENS))
    def undefer(self, sid: str, token: str) -> None:
        self.both(op.Undefer(sid, token, WIDTH))

    # --- resources

    @rule(
        sid=session_ids, number=numbers, kind=st.sampled_from("ffox"), place=places, size=sizes, live=booleans,
        limits=st.sampled_from([(100, 10_000), (3, 10_000), (100, 120), (3, 120), (0, 120)]), quota=booleans,
    )  # fmt: skip
    def register(
        self, sid: str, number: int, kind: str, place: str, size: int, live: bool, limits: tuple[int, int], quota: bool
    ) -> None:
        quota = quota and self.has_user(sid)
        not_after = self.memory.now - 1 + number if quota else 0
        self.both(
            op.Register(
                sid,
                resource_id(sid, number),
                kind,
                place,
                size,
                "why",
                live,
                60_000,
                *limits,
                quota=quota,
                not_after=not_after,
            )
        )

    def has_user(self, sid: str) -> bool:
        """Only a user's session holds shares of a quota."""
        record = self.memory.do(op.PeekSession(sid)).record
        return record is not None and record.user is not None

    @rule(sid=session_ids, number=numbers)
    def register_stream(self, sid: str, number: int) -> None:
        self.both(op.Register(sid, resource_id(sid, number), "s", "p.web", 0, live=True, max_streams=2))

    @rule(sid=session_ids, number=numbers, place=places, size=sizes)
    def add_file(self, sid: str, number: int, place: str, size: int) -> None:
        self.both(op.Register(sid, resource_id(sid, number), "f", place, size))
        self.both(op.Commit(sid, resource_id(sid, number), size))

    @rule(sid=session_ids, number=numbers, size=sizes, most=st.sampled_from([120, 10_000]))
    def grow(self, sid: str, number: int, size: int, most: int) -> None:
        self.both(op.Grow(sid, resource_id(sid, number), size, 60_000, most))

    @rule(sid=session_ids, number=numbers, size=sizes)
    def commit(self, sid: str, number: int, size: int) -> None:
        self.both(op.Commit(sid, resource_id(sid, number), size))

    @rule(sid=session_ids, number=numbers)
    def release(self, sid: str, number: int) -> None:
        self.both(op.Release(sid, resource_id(sid, number)))

    @rule(sid=session_ids, number=numbers)
    def use(self, sid: str, number: int) -> None:
        self.both(op.UseResource(sid, resource_id(sid, number)))

    @rule(sid=session_ids, number=numbers, place=places, size=sizes)
    def readopt(self, sid: str, number: int, place: str, size: int) -> None:
        self.both(op.Readopt(sid, resource_id(sid, number), place, size))

    @rule(limit=st.sampled_from([1, 100]), back=st.sampled_from([None, 0, 30_000]))
    def overdue(self, limit: int, back: int | None) -> None:
        self.both(op.OverdueIntents(P, limit, 0 if back is None else self.memory.now - back, 30_000))

    # --- reclaim

    @rule(
        place=places, duration=st.sampled_from([1, 60_000]), back=st.sampled_from([None, None, 30_000]),
        dead=st.sampled_from([False, False, False, True]), results=st.lists(st.sampled_from(list(Outcome)), max_size=6),
        delay=delays, again=booleans,
    )  # fmt: skip
    def reclaim(
        self, place: str, duration: int, back: int | None, dead: bool, results: list[Outcome], delay: int, again: bool
    ) -> None:
        """A worker's pass: leases, asks again, settles some of it, some of that twice."""
        self.leases += 1
        bound = 0 if back is None else self.memory.now - back
        lease = op.Lease(P, place, f"lease-{self.leases}", duration, 200, bound, dead and place == "p.web")
        entries = self.both(lease).entries
        if duration > 1:
            self.both(op.LeaseHeld(P, place, lease.lease_id))
            if again:
                assert self.both(lease).entries == entries
        outcomes = iter(results)
        for sid, found in entries:
            attempts = tuple(
                op.Attempt(one.resource_id, outcome, delay, "why")
                for one, outcome in zip(found, outcomes, strict=False)
            )
            settle = op.Settle(sid, place, attempts, tries=2, retention=FOREVER, own=lease.dead)
            for _ in range(1 + again):
                self.both(settle)

    @rule(
        sid=session_ids,
        number=numbers,
        place=places,
        outcome=st.sampled_from(list(Outcome)),
        own=booleans,
        delay=delays,
    )
    def settle(self, sid: str, number: int, place: str, outcome: Outcome, own: bool, delay: int) -> None:
        """Late, early, by its owner, or for nothing."""
        attempt = op.Attempt(resource_id(sid, number), outcome, delay, "E" * 300 if own else "")
        self.both(op.Settle(sid, place, (attempt,), 2, FOREVER, own))

    @rule(sid=session_ids, number=numbers, retry=booleans)
    def dead_letter(self, sid: str, number: int, retry: bool) -> None:
        rid = resource_id(sid, number)
        self.both(op.RetryDead(sid, rid) if retry else op.DropDead(sid, rid, FOREVER))

    @rule(sid=session_ids, number=numbers, place=places)
    def fail_to_death(self, sid: str, number: int, place: str) -> None:
        attempt = op.Attempt(resource_id(sid, number), Outcome.FAILED, 0, "EPERM")
        for _ in range(2):
            self.both(op.Settle(sid, place, (attempt,), 2, FOREVER))

    # --- passes

    @rule(
        limit=st.sampled_from([1, 2, 25]), back=st.sampled_from([None, None, 30_000]),
        observe=st.sampled_from([False, False, True]), hold=st.sampled_from([0, 60_000]),
    )  # fmt: skip
    def sweep(self, limit: int, back: int | None, observe: bool, hold: int) -> None:
        bound = 0 if back is None else self.memory.now - back
        step = self.both(op.SweepStep(P, WIDTH, GRACE, hold, limit, bound, observe))
        for _ in range(100):
            if not step.more:
                return
            step = self.both(op.SweepStep(P, WIDTH, GRACE, hold, limit, bound, observe))
        raise AssertionError("the sweep comes to no end")

    @rule(duration=st.sampled_from([0, 1, 60_000, IDLE]))
    def hold_idle(self, duration: int) -> None:
        self.both(op.HoldIdle(P, duration))

    @rule(sid=session_ids)
    def mend(self, sid: str) -> None:
        self.both(op.Mend(sid, WIDTH, GRACE, FOREVER))

    @rule(
        sid=session_ids, alias=st.sampled_from(ALIASES), forget=st.sampled_from([(), ("a", "b")]),
        names=st.lists(st.sampled_from("abcde"), unique=True, max_size=5),
    )  # fmt: skip
    def look(self, sid: str, alias: str, names: list[str], forget: tuple[str, ...]) -> None:
        """What reads, and what no other operation meets."""
        self.both(op.FindAlias(P, alias))
        slot = self.both(op.ListWheel(P, limit=1))[1]
        self.both(op.ListWheel(P, slot, len(names), 1 + len(forget), sid))
        self.both(op.Owned(sid, tuple(resource_id(sid, number) for number in range(6))))
        self.both(op.Sight(P, "volume", "run", tuple(names), 1000, 2, SIGHTED, forget))
        entries = self.both(op.OutboxRead(P, 3))
        self.both(op.OutboxDone(P, tuple(entry.raw for entry in entries[:2])))
        memory, redis = (set(store.scan()) for store in self.stores)
        assert memory == redis

    # --- faults

    @rule(sid=session_ids, place=places, what=st.integers(0, 3))
    def fault(self, sid: str, place: str, what: int) -> None:
        record = self.memory.do(op.PeekSession(sid)).record
        filed = record.filed if record is not None and self.memory.has_slot(record.filed) else 0
        queued = self.memory.has_queue(place)
        for store in self.stores:
            if what == 0:
                store.restart()
            elif what == 1 and record is not None:
                self.lost.add(sid)
                store.lose_session(sid)
            elif what == 2 and filed:
                store.lose_slot(filed)
            elif what == 3 and queued:
                store.lose_queue(place)

    # --- books: few rules, because every rule is drawn equally often

    @rule(
        user=users, sid=session_ids, number=st.sampled_from([None, 0, 1, 2]), size=sizes, limit=st.integers(0, 3),
        what=st.integers(0, 5), before=st.sampled_from([0, 0, -60_000, -1, 60_000]),
    )  # fmt: skip
    def books(
        self, user: str | None, sid: str, number: int | None, size: int, limit: int, what: int, before: int
    ) -> None:
        bound = self.memory.now + before if before < 0 else 0
        share = "*" if number is None else resource_id(sid, number)
        if what <= 1:
            self.both(op.Reserve(user, sid, limit, 60_000, 1 if what else 50, bound))
        elif what == 2:
            self.both(op.Confirm(user, sid, bound))
        elif what == 3:
            self.both(op.GiveBack(user, sid, before=before and self.memory.now + before))
        elif what >= 4 and limit and user and number is not None:
            self.both(op.ReserveQuota(user, sid, share, size, limit, 120 * (limit % 2), present=what > 4))
        elif user:
            self.both(op.GiveBack(user, sid, share, before and self.memory.now + before))
        self.both(op.BookPage(user, limit=2))
        self.both(op.BookPage(user, 0 if limit else 10**15 + self.memory.now, sid, 1 + size // 40))


EXAMPLES = int(os.environ.get("STORE_MACHINE_EXAMPLES", "60"))


@pytest.mark.timeout(600)  # only a failure takes that long: until its steps are few enough to read
def test_redis_and_memory_agree(redis_url: str) -> None:
    class Bound(StoreMachine):
        url = redis_url

    run_state_machine_as_test(
        Bound,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=50, deadline=None, print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
