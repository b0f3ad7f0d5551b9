"""A store under test: one face for all of them, with time that the test moves and faults that it makes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import redis

from sessionsweep.errors import StoreError
from sessionsweep.model.books import imbalance
from sessionsweep.model.ids import new_resource_id, new_session_id
from sessionsweep.model.states import Outcome
from sessionsweep.store import operations as op
from sessionsweep.store.keys import Keys
from sessionsweep.store.memory import AsyncMemoryStore, MemoryStore
from sessionsweep.store.redis.aio import AsyncRedisStore
from sessionsweep.store.redis.sync import RedisStore

R = TypeVar("R")

P = "07"  # the partition that tests use
T0 = 1_800_000_000_000  # the time at which every test begins, ms
IDLE, LONGEST, WIDTH, GRACE = 900_000, 3_600_000, 10_000, 30_000
MAC, OTHER_MAC, NEW_MAC = b"m" * 16, b"o" * 16, b"n" * 16
DISK, OTHER_DISK = "v.disk000000000000", "v.disk111111111111"
PROCESS = "p.web-1"


class Subject:
    """What every test drives. The time stands still unless `advance` moves it."""

    def __init__(self) -> None:
        self.now = T0
        self._set_time(T0)

    def do(self, operation: op.Operation[R]) -> R:
        """Carries an operation out."""
        raise NotImplementedError

    def many(self, operations: list[op.Operation[Any]]) -> list[Any | StoreError]:
        """Many of them in one go."""
        raise NotImplementedError

    def advance(self, milliseconds: int) -> None:
        """Moves the store's time."""
        self.now += milliseconds
        self._set_time(self.now)

    def _set_time(self, now: int) -> None:
        raise NotImplementedError

    def until_lapsed(self, milliseconds: int, condition: Callable[[], bool]) -> bool:
        """Lets what lasts `milliseconds` by the store's own clock run out; whether `condition` came true."""
        raise NotImplementedError

    # faults

    def restart(self) -> None:
        """The server has another run id from now on."""
        raise NotImplementedError

    def lose_session(self, session_id: str) -> None:
        """A lost write: the session's record is gone, nothing else."""
        raise NotImplementedError

    def lose_slot(self, slot: int) -> None:
        """A lost write: one slot of the wheel is gone."""
        raise NotImplementedError

    def lose_queue(self, location: str) -> None:
        """A lost write: one queue is empty."""
        raise NotImplementedError

    def lose_records(self, session_id: str) -> None:
        """A lost write: all of a session's resource records are gone."""
        raise NotImplementedError

    def close(self) -> None:
        """Closes the store."""
        raise NotImplementedError

    # short names for what many tests do

    def create(self, session_id: str | None = None, **fields: Any) -> str:
        """A live session with the tests' timeouts; answers its id."""
        made = self.do(create_op(session_id, **fields))
        assert made.status is op.OpenStatus.OK
        assert made.record is not None
        return made.record.session_id

    def open(self, session_id: str, mac: bytes = MAC, **fields: Any) -> op.Opened:
        """Opens with the tests' grace and hold."""
        fields = {"grace": GRACE, "hold": IDLE, **fields}
        return self.do(op.OpenSession(session_id, (mac,), **fields))

    def register(self, session_id: str, resource_id: str | None = None, **fields: Any) -> str:
        """An intent (or, with `live`, a live resource) on `DISK`; answers its id."""
        resource_id = resource_id or new_resource_id()
        fields = {"kind": "f", "location": DISK, "size": 100, **fields}
        reply = self.do(op.Register(session_id, resource_id, **fields))
        assert reply.status == "ok", reply
        return resource_id

    def file(self, session_id: str, resource_id: str | None = None, size: int = 100, **fields: Any) -> str:
        """A committed file; answers its id."""
        resource_id = self.register(session_id, resource_id, size=size, **fields)
        assert self.do(op.Commit(session_id, resource_id, size)).status == "ok"
        return resource_id

    def lease(self, location: str = DISK, lease_id: str = "lease-1", **fields: Any) -> op.Leased:
        """Leases for a minute."""
        return self.do(op.Lease(P, location, lease_id, **{"duration": 60_000, **fields}))

    def leased(self, location: str = DISK, lease_id: str = "lease-1", **fields: Any) -> dict[str, set[str]]:
        """Leases; answers session id → resource ids."""
        entries = self.lease(location, lease_id, **fields).entries
        return {sid: {one.resource_id for one in found} for sid, found in entries}

    def settle(
        self, session_id: str, resource_id: str, outcome: str, location: str = DISK, **fields: Any
    ) -> op.Settled:
        """Acknowledges one attempt; `delay` and `error` belong to it."""
        attempt = op.Attempt(resource_id, Outcome(outcome), fields.pop("delay", 0), fields.pop("error", ""))
        return self.do(op.Settle(session_id, location, (attempt,), **fields))

    def end(self, session_id: str, reason: str = "logout", **fields: Any) -> op.Ended:
        """Ends a session."""
        return self.do(op.EndSession(session_id, reason, **fields))

    def sweep(self, **fields: Any) -> op.Swept:
        """One step of the sweep."""
        return self.do(op.SweepStep(P, **{"width": WIDTH, "grace": GRACE, "hold": IDLE, **fields}))

    def sweep_all(self, **fields: Any) -> list[op.Swept]:
        """Steps until nothing more is due."""
        steps = [self.sweep(**fields)]
        while steps[-1].more:
            steps.append(self.sweep(**fields))
        return steps

    def record(self, session_id: str) -> Any:
        """The live record, untouched; fails if the session isn't live."""
        record = self.do(op.PeekSession(session_id)).record
        assert record is not None
        return record

    def tombstone(self, session_id: str) -> Any:
        """The tombstone or receipt, or None."""
        return self.do(op.PeekSession(session_id)).tombstone

    def resource(self, session_id: str, resource_id: str) -> Any:
        """One resource's record, or None."""
        found = [one for one in self.do(op.ListResources(session_id)) if one.resource_id == resource_id]
        return found[0] if found else None

    def books(self) -> dict[str, int]:
        """The partition's counters, without those that are 0 and those of a single kind; they must balance."""
        counters = dict(self.do(op.Counters(P)))
        assert imbalance(counters) == 0, counters
        kinds = {name for name in counters if name.startswith("reg:")}
        assert sum(counters[name] for name in kinds) == counters.get("reg", 0), counters
        return {name: number for name, number in sorted(counters.items()) if number and name not in kinds}

    def queue(self, location: str = DISK) -> op.QueueDepth | None:
        """One location's queue, if there ever was one."""
        found = [depth for depth in self.do(op.Queues(P)) if depth.location == location]
        return found[0] if found else None

    def wheel(self) -> list[str]:
        """All filed ids in due order."""
        ids: list[str] = []
        slot = offset = 0
        while True:
            page, slot, offset = self.do(op.ListWheel(P, slot, offset, limit=3))
            ids += page
            if slot == 0:
                return ids

    def scan(self, count: int = 200) -> list[str]:
        """All session ids of the partition, in the order in which the slices come."""
        ids: list[str] = []
        cursor = 0
        while True:
            cursor, page = self.do(op.ScanSessions(P, cursor, count))
            ids += page
            if cursor == 0:
                return ids

    def outbox(self) -> set[tuple[str, str, str, str]]:
        """What is to be given back: (book, session, user, resource)."""
        entries = self.do(op.OutboxRead(P, limit=1000))
        return {(one.book, one.session_id, one.user, one.resource_id) for one in entries}


def create_op(session_id: str | None = None, **fields: Any) -> op.CreateSession:
    """A `CreateSession` with the tests' timeouts."""
    fields = {"mac": MAC, "idle": IDLE, "max": LONGEST, "width": WIDTH, **fields}
    return op.CreateSession(session_id or new_session_id(P), **fields)


class MemorySubject(Subject):
    """The in-memory store."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        super().__init__()

    def do(self, operation: op.Operation[R]) -> R:
        return self.store.execute(operation)

    def many(self, operations: list[op.Operation[Any]]) -> list[Any | StoreError]:
        return self.store.execute_many(operations)

    def _set_time(self, now: int) -> None:
        self.store.freeze(now)

    def until_lapsed(self, milliseconds: int, condition: Callable[[], bool]) -> bool:
        self.advance(milliseconds)
        return condition()

    def restart(self) -> None:
        self.store.run_id = new_resource_id()

    def lose_session(self, session_id: str) -> None:
        del self.store._state.sessions[session_id]

    def has_slot(self, slot: int) -> bool:
        """Whether anything is filed in that slot."""
        found = self.store._state.partition(P).wheel.slots.get(slot)
        return found is not None and bool(found.ids)

    def queue_times(self, locations: list[str]) -> list[dict[str, int]]:
        """When each entry of these queues is due."""
        queues = self.store._state.partition(P).queues
        return [dict(queues[location].times) if location in queues else {} for location in locations]

    def has_queue(self, location: str) -> bool:
        """Whether anything is queued there."""
        found = self.store._state.partition(P).queues.get(location)
        return found is not None and bool(found.times)

    def lose_slot(self, slot: int) -> None:
        del self.store._state.partition(P).wheel.slots[slot]

    def lose_queue(self, location: str) -> None:
        self.store._state.partition(P).queues[location].times.clear()

    def lose_records(self, session_id: str) -> None:
        del self.store._state.partition(P).holdings[session_id]

    def close(self) -> None:
        self.store.close()


class AsyncMemorySubject(MemorySubject):
    """Its asynchronous face."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        super().__init__()
        self._face = AsyncMemoryStore(self.store)

    def do(self, operation: op.Operation[R]) -> R:
        return self._runner.run(self._face.execute(operation))

    def many(self, operations: list[op.Operation[Any]]) -> list[Any | StoreError]:
        return self._runner.run(self._face.execute_many(operations))

    def close(self) -> None:
        self._runner.run(self._face.close())
        self._runner.close()


class RedisSubject(Subject):
    """The Redis store, in a namespace of its own."""

    def __init__(self, url: str, namespace: str) -> None:
        self.store = RedisStore(url, namespace, test_clock=True)
        self.client = redis.Redis.from_url(url, protocol=2)
        self.keys = Keys(namespace)
        super().__init__()

    def do(self, operation: op.Operation[R]) -> R:
        return self.store.execute(operation)

    def many(self, operations: list[op.Operation[Any]]) -> list[Any | StoreError]:
        return self.store.execute_many(operations)

    def _set_time(self, now: int) -> None:
        self.store.freeze(now)

    def until_lapsed(self, milliseconds: int, condition: Callable[[], bool]) -> bool:
        # Time to live is counted by the server itself, whose clock no test moves.
        deadline = time.monotonic() + 10
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.client.blpop("ss-no-such-list", timeout=0.02)
        return True

    def restart(self) -> None:
        # What a script remembers differs from what INFO says; a partition that never asked remembers nothing.
        if self.client.hexists(self.keys.held(P), "run"):
            self.client.hset(self.keys.held(P), "run", "0" * 40)

    def queue_times(self, locations: list[str]) -> list[dict[str, int]]:
        """When each entry of these queues is due."""
        pipeline = self.client.pipeline(transaction=False)
        for location in locations:
            pipeline.zrange(self.keys.queue(P, location), 0, -1, withscores=True)
        return [{sid.decode(): int(moment) for sid, moment in found} for found in pipeline.execute()]

    def lose_session(self, session_id: str) -> None:
        assert self.client.unlink(self.keys.session(session_id)) == 1

    def lose_slot(self, slot: int) -> None:
        assert self.client.unlink(f"{self.keys.wheel(P)}:{slot}") == 1
        self.client.zrem(self.keys.wheel(P), slot)

    def lose_queue(self, location: str) -> None:
        assert self.client.unlink(self.keys.queue(P, location)) == 1

    def lose_records(self, session_id: str) -> None:
        assert self.client.unlink(self.keys.resources(session_id)) == 1

    def close(self) -> None:
        self.store.close()
        self.client.close()


class AsyncRedisSubject(RedisSubject):
    """The asynchronous Redis store; the synchronous one beside it only sets the time."""

    def __init__(self, url: str, namespace: str) -> None:
        self._runner = asyncio.Runner()
        super().__init__(url, namespace)
        self._face = AsyncRedisStore(url, namespace, test_clock=True)

    def _run(self, work: Coroutine[Any, Any, R]) -> R:
        return self._runner.run(work)

    def do(self, operation: op.Operation[R]) -> R:
        return self._run(self._face.execute(operation))

    def many(self, operations: list[op.Operation[Any]]) -> list[Any | StoreError]:
        return self._run(self._face.execute_many(operations))

    def close(self) -> None:
        self._run(self._face.close())
        self._runner.close()
        super().close()
