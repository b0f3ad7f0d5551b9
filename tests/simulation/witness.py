"""What must hold after every word with the store, judged by what was said and answered, not by the product's counters.

The witness keeps its own record of every session: when it was last heard of, when it must end, what secret opens it. It
does not follow the server into the past: a failover may forget a touch, the witness doesn't.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sessionsweep.model import books
from sessionsweep.model.session import FLAG_TOTAL_BOOK, FLAG_USER_BOOK
from sessionsweep.model.states import RESOURCE_TRANSITIONS, ResourceState
from sessionsweep.settings import Settings
from sessionsweep.store import operations as op
from sessionsweep.store.memory import MemoryStore
from sessionsweep.store.memory.state import Partition, Resource, Session

Key = tuple[str, str]  # session id, resource id

#: What may change a record or a session. A record that another operation changed is found at the next of these.
CHANGES = frozenset({
    op.CreateSession, op.OpenSession, op.RotateSession, op.ExtendSession, op.SaveData, op.EndSession, op.SweepStep,
    op.Register, op.Grow, op.Commit, op.Release, op.UseResource, op.OverdueIntents, op.Lease, op.Settle, op.RetryDead,
    op.DropDead, op.Mend, op.Readopt, op.Defer, op.Undefer,
})  # fmt: skip

#: Which ways of the table of transitions an operation may take.
WAYS: dict[type, tuple[str, ...]] = {
    op.Register: ("evict",),
    op.Grow: ("grow", "evict"),
    op.Commit: ("commit",),
    op.Release: ("release",),
    op.OverdueIntents: ("overdue", "assume"),
    op.Settle: ("settle", "fail"),
    op.RetryDead: ("retry",),
    op.DropDead: ("drop",),
}
MAY_APPEAR = (op.Register, op.Readopt)
MAY_END = (op.SweepStep, op.OpenSession, op.EndSession, op.CreateSession)


@dataclass
class Seen:
    """One session, as those who used it know it."""

    session: Session  # the store's own, for what nobody outside was told: its keep-alive
    mac: bytes
    created: int
    last: int
    idle: int
    max: int
    heard: int  # when it was last heard of, by the clock as it stands: set back since, it is earlier than `last`

    def idle_end(self) -> int:
        """When it may be ended for being idle, by whatever was ever answered to anybody."""
        return max(self.last + self.idle, self.session.more.keep)

    def absolute_end(self) -> int:
        """When it must end."""
        return self.created + self.max if self.max else 10**15

    def touched(self, now: int) -> None:
        """Somebody used it."""
        self.last, self.heard = max(self.last, now), now

    def set_back(self, milliseconds: int) -> None:
        """The server's clock was. What the store forgot of its touches is as long ago as it was."""
        self.heard -= milliseconds
        if self.last > self.session.last:
            self.last = max(self.session.last, self.heard)


@dataclass
class Death:
    """How a session ended: what it left may go from `due` on (ms)."""

    at: int
    reason: str
    due: int


class Witness:
    """Looks at the store after each word. What it finds wrong it adds to `wrong`."""

    def __init__(self, store: MemoryStore, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self.wrong: list[str] = []
        self.seen: dict[str, Seen] = {}
        self.deaths: dict[str, Death] = {}
        self.lost: dict[str, int] = {}  # sessions that a failover forgot: when
        self.removed: dict[Key, int] = {}  # when a record went
        self.shares: dict[Key, str] = {}  # what counts against its user's quota: by whom
        self.inexact = False  # limits no longer are: writes were lost
        self.made_again = 0  # sessions
        self._states: dict[Key, ResourceState] = {}

    def accuse(self, what: str) -> None:
        """Something is wrong."""
        self.wrong.append(what)

    # each word

    def look(self, operation: op.Operation[Any], reply: Any, now: int, *, repeated: bool = False) -> None:
        """After one word that was carried out."""
        kind = type(operation)
        if kind not in CHANGES:
            return
        live = self.store._state.sessions
        if isinstance(operation, op.CreateSession) and (known := self.seen.get(operation.session_id)):
            again = live.get(operation.session_id)
            if again is not None and again is not known.session:
                # sent again when what it had made was over: a key's session was ended and made anew in this one step
                self.seen.pop(operation.session_id)
                self._ended(operation.session_id, known, operation, now)
        same = live.keys() == self.seen.keys()
        if not same:
            self._comings_and_goings(operation, now, repeated)
        if isinstance(operation, op.OpenSession):
            self._opened(operation, reply, now)
            if same:
                return
        elif isinstance(reply, op.Opened) and reply.record is not None:
            self._renewed(operation, reply, now, repeated)
        elif _called_over(operation, reply):
            seen = self.seen.get(operation.session_id)
            if seen is not None and self._lives(operation.session_id, seen, now):
                left = seen.idle_end() - now
                when = f"{left} ms before its idle end" if left > 0 else "while idle ends are held"
                self.accuse(f"{operation.session_id} was called over by {kind.__name__} {when}")
        self._records(operation, now)
        self._limits(operation, now)

    def _comings_and_goings(self, operation: op.Operation[Any], now: int, repeated: bool) -> None:
        live = self.store._state.sessions
        for sid in [sid for sid in self.seen if sid not in live]:
            seen = self.seen.pop(sid)
            self._ended(sid, seen, operation, now)
        for sid in live.keys() - self.seen.keys():
            session = live[sid]
            if repeated and isinstance(operation, op.CreateSession) and not operation.not_after:
                # its first answer was lost, the session has ended since, and it held no place under a limit: nobody had
                # its token, and nothing tells this from a session that is made now
                self.made_again += self.deaths.pop(sid, None) is not None
            if not isinstance(operation, op.CreateSession) or sid in self.deaths:
                self.accuse(f"{sid} came to life by {type(operation).__name__}")
            self.seen[sid] = Seen(session, session.seal[:16], now, now, session.idle, session.max, now)

    def _ended(self, sid: str, seen: Seen, operation: op.Operation[Any], now: int) -> None:
        if not isinstance(operation, MAY_END):
            self.accuse(f"{sid} ended by {type(operation).__name__}")
        explicit = isinstance(operation, op.EndSession) and not operation.only_due
        idle, absolute = now >= seen.idle_end(), now >= seen.absolute_end()
        if not (explicit or idle or absolute):
            self.accuse(
                f"{sid} was ended by {type(operation).__name__} while in use: touched {now - seen.last} ms ago, "
                f"idle timeout {seen.idle} ms, {seen.absolute_end() - now} ms before its absolute end"
            )
        # what a failover forgot of its touches, it died of earlier in the server's eyes
        session = seen.session
        died = now if explicit else min(now, session.idle_end(), session.absolute_end())
        due = died if explicit else died + round(self.settings.grace_period * 1000)
        reason = str(getattr(operation, "reason", "")) if explicit else ("expired" if absolute else "idle")
        self.deaths[sid] = Death(now, reason, due)

    def _opened(self, operation: op.OpenSession, reply: op.Opened, now: int) -> None:
        sid = operation.session_id
        if reply.record is None:
            return
        seen = self.seen.get(sid)
        if seen is None:
            self.accuse(f"{sid} was opened and is not there")
            return
        if sid in self.deaths:
            self.accuse(f"{sid} was opened after its end")
        if seen.mac not in operation.macs:
            self.accuse(f"{sid} was opened with a secret that is not its own any more")
        if now >= seen.absolute_end():
            self.accuse(f"{sid} was opened {now - seen.absolute_end()} ms after its absolute end")
        if now >= seen.idle_end() and self._partition(sid).held_until <= now:
            self.accuse(f"{sid} was opened {now - seen.idle_end()} ms after its idle end")
        if operation.touch:
            seen.touched(now)

    def _renewed(self, operation: op.Operation[Any], reply: op.Opened, now: int, repeated: bool) -> None:
        """What else counts as activity, and what changes its terms. What was sent again was done when it came first."""
        record = reply.record
        assert record is not None
        seen = self.seen[record.session_id]
        # whoever sends a `create` again is told what the first one made, be it over by now
        again = isinstance(operation, op.CreateSession) and record.session_id == operation.session_id
        if not again and not self._lives(record.session_id, seen, now):
            self.accuse(f"{record.session_id} was over, and answered to {type(operation).__name__}")
        if isinstance(operation, op.CreateSession):
            if operation.alias:
                seen.touched(now if record.session_id != operation.session_id else record.last_activity)
        elif isinstance(operation, op.RotateSession):
            seen.mac = operation.new_mac
            seen.touched(record.last_activity if repeated else max(now, record.last_activity))
        elif isinstance(operation, op.ExtendSession):
            seen.touched(now)
            seen.idle = seen.idle if operation.idle is None else operation.idle
            seen.max = seen.max if operation.max is None else operation.max

    def _lives(self, sid: str, seen: Seen, now: int) -> bool:
        """Whether it must answer, and may. While idle ends are held, or a restart is to be noted, nobody is idle."""
        partition = self._partition(sid)
        held = partition.held_until > now or partition.run_id not in (None, self.store._state.run_id)
        return now < seen.absolute_end() and (held or now < seen.idle_end())

    # records and books

    def _partition(self, session_id: str) -> Partition:
        return self.store._state.partition(session_id[:2])

    def _records(self, operation: op.Operation[Any], now: int) -> None:
        state = self.store._state
        states: dict[Key, ResourceState] = {}
        for partition in state.partitions.values():
            count: Counter[str] = Counter()
            for sid, holdings in partition.holdings.items():
                live = sid in state.sessions
                for rid, resource in holdings.records.items():
                    letter = resource.state
                    if not live and letter is not ResourceState.DEAD:
                        letter = ResourceState.OWED  # whatever stands there: model/states.py
                    states[sid, rid] = letter
                    _count(count, letter, resource)
            told = partition.counters
            for name in (books.ACTIVE, books.OWED, books.DEAD, books.ACTIVE_BYTES, books.OWED_BYTES):
                if told[name] != count[name]:
                    self.accuse(f"the books say {name} = {told[name]}, there are {count[name]}")
            if books.imbalance(told):
                self.accuse(f"the books are out of balance by {books.imbalance(told)}")
        if states != self._states:
            self._transitions(operation, states, now)
            self._states = states

    def _transitions(self, operation: op.Operation[Any], states: dict[Key, ResourceState], now: int) -> None:
        ways, name = WAYS.get(type(operation), ()), type(operation).__name__
        for key, old in self._states.items():
            new = states.get(key)
            if new is old:
                continue
            allowed = {RESOURCE_TRANSITIONS[old][way] for way in ways if way in RESOURCE_TRANSITIONS[old]}
            ended = key[0] in self.deaths and new is ResourceState.OWED and old is not ResourceState.DEAD
            if new not in allowed and not ended:
                self.accuse(f"{key} went from {old!r} to {new!r} by {name}")
            if new is None:
                self.removed[key] = now
                self.shares.pop(key, None)
            elif new not in (ResourceState.INTENT, ResourceState.LIVE):
                self.shares.pop(key, None)
        if not isinstance(operation, MAY_APPEAR):
            for key in states.keys() - self._states.keys():
                self.accuse(f"{key} appeared as {states[key]!r} by {name}")

    # limits

    def _limits(self, operation: op.Operation[Any], now: int) -> None:
        if self.inexact or not isinstance(operation, (op.CreateSession, op.RotateSession, op.Register, op.Grow)):
            return
        s, state = self.settings, self.store._state
        users: Counter[str] = Counter()
        total = 0
        for sid, seen in self.seen.items():
            if not self._lives(sid, seen, now):
                continue
            more = seen.session.more
            total += bool(more.flags & FLAG_TOTAL_BOOK)
            if more.user and more.flags & FLAG_USER_BOOK:
                users[more.user] += 1
            holdings = self._partition(sid).holdings.get(sid)
            active = [
                resource
                for resource in (holdings.records.values() if holdings else ())
                if resource.state in (ResourceState.INTENT, ResourceState.LIVE) and resource.kind != "s"
            ]
            size = sum(resource.size for resource in active)
            if len(active) > s.max_resources_per_session or size > s.max_bytes_per_session:
                self.accuse(f"{sid} owns {len(active)} resources of {size} bytes, over its limits")
        if s.max_sessions and total > s.max_sessions:
            self.accuse(f"{total} sessions live, MAX_SESSIONS is {s.max_sessions}")
        if s.max_sessions_per_user and users and max(users.values()) > s.max_sessions_per_user:
            self.accuse(f"sessions of users: {dict(users)}, MAX_SESSIONS_PER_USER is {s.max_sessions_per_user}")
        if isinstance(operation, op.Register) and operation.quota:
            key = (operation.session_id, operation.resource_id)
            user = state.sessions[key[0]].more.user if key[0] in state.sessions else None
            if user and self._states.get(key) is ResourceState.INTENT:
                self.shares[key] = user
            held: Counter[str] = Counter(
                user for (sid, _), user in self.shares.items() if sid in self.seen and self._is_of(sid, user, now)
            )
            if s.max_resources_per_user and held and max(held.values()) > s.max_resources_per_user:
                self.accuse(f"resources of users: {dict(held)}, MAX_RESOURCES_PER_USER is {s.max_resources_per_user}")

    def _is_of(self, sid: str, user: str, now: int) -> bool:
        seen = self.seen[sid]
        return seen.session.more.user == user and self._lives(sid, seen, now)

    # faults

    def clock_set(self, by: int) -> None:
        """The server's clock was, by so many ms."""
        for seen in self.seen.values():
            seen.set_back(max(0, -by))

    def restored(self, now: int, *, emptied: bool = False) -> None:
        """The store is another one: an older copy of itself, or empty. What it says from now on is measured by this."""
        state = self.store._state
        self.inexact = True
        before, self.seen = self.seen, {}
        for sid, session in state.sessions.items():
            known = before.get(sid)
            heard = known.heard if known else session.last
            last = max(session.last, heard)
            self.seen[sid] = Seen(session, session.seal[:16], session.created, last, session.idle, session.max, heard)
            self.deaths.pop(sid, None)
        for sid in before:
            if sid not in state.sessions:
                # an emptied store gives nobody back: what waits there is an operator's word
                self.lost[sid] = 0 if emptied else now
        states: dict[Key, ResourceState] = {}
        for partition in state.partitions.values():
            for sid, holdings in partition.holdings.items():
                if sid not in state.sessions and sid not in self.deaths:
                    grave = partition.graves[sid]
                    self.deaths[sid] = Death(grave.ended, grave.reason, grave.due)
                for rid, resource in holdings.records.items():
                    letter = resource.state
                    if sid not in state.sessions and letter is not ResourceState.DEAD:
                        letter = ResourceState.OWED
                    states[sid, rid] = letter
                    self.removed.pop((sid, rid), None)
        for key in self._states:
            if key not in states:
                self.removed[key] = now
        self._states = states

    def record(self, session_id: str, resource_id: str) -> Resource | None:
        """A resource's record as it stands."""
        holdings = self._partition(session_id).holdings.get(session_id)
        return holdings.records.get(resource_id) if holdings is not None else None


def _called_over(operation: op.Operation[Any], reply: Any) -> bool:
    """Whether the answer is that the session is over, or never was."""
    if isinstance(operation, op.Register | op.Grow | op.Commit):
        return bool(reply.status == "ended")
    if isinstance(operation, op.ExtendSession) or (isinstance(operation, op.SaveData) and not operation.mac):
        return reply.record is None
    return False


def _count(count: Counter[str], letter: ResourceState, resource: Resource) -> None:
    if letter in (ResourceState.INTENT, ResourceState.LIVE):
        count[books.ACTIVE] += 1
        count[books.ACTIVE_BYTES] += resource.size
    elif letter is ResourceState.OWED:
        count[books.OWED] += 1
        count[books.OWED_BYTES] += resource.size
    else:
        count[books.DEAD] += 1
