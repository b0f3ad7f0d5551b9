"""Conformance: what is called repeatable can be sent again: it changes nothing, and answers the same or "already"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from driving import DISK, GRACE, MAC, NEW_MAC, PROCESS, WIDTH, P, Subject, create_op

from sessionsweep.model.ids import new_resource_id, new_session_id
from sessionsweep.model.session import FLAG_USER_BOOK
from sessionsweep.model.states import Outcome
from sessionsweep.store import operations as op

USER = "ana"


class Scene:
    """A store with one of everything."""

    def __init__(self, store: Subject) -> None:
        self.store = store
        self.live = store.create(user=USER, flags=FLAG_USER_BOOK, alias="a" * 32, data={"k": b"v"})
        self.over, self.broken, self.fresh = store.create(), store.create(), new_session_id(P)
        self.file, self.other = store.file(self.live), store.file(self.live)
        self.intent = store.register(self.live)
        self.owed, self.dead = store.file(self.over), store.file(self.over)
        store.end(self.over)
        store.settle(self.over, self.dead, "failed", tries=1)
        store.lose_slot(store.record(self.broken).filed)
        store.do(op.Defer(self.live, "job-0", 1000))
        store.do(op.Reserve(USER, self.live, 5))
        store.do(op.ReserveQuota(USER, self.live, self.file, 10))
        store.do(op.SetMeta({"id": "one", "mark": "1"}))
        store.do(op.TablePut("vols", "v1", "x"))
        store.do(op.TakeLease("pass", "me", 60_000))
        store.create(self.doomed(), user=USER, flags=FLAG_USER_BOOK)
        store.end(self.doomed())
        self.raw = tuple(one.raw for one in store.do(op.OutboxRead(P)))
        assert self.raw

    def doomed(self) -> str:
        return f"{P}{'d' * 18}"

    def state(self) -> list[Any]:
        """All that can be read."""
        do = self.store.do
        found: list[Any] = [self.store.books(), self.store.wheel(), self.store.outbox(), set(self.store.scan())]
        found += [set(do(op.Queues(P))), do(op.DeadLetters(P)), do(op.Meta()), do(op.Table("vols"))]
        for user in (USER, None):
            found.append(do(op.BookPage(user)))
        for sid in (self.live, self.over, self.broken, self.fresh):
            found += [do(op.PeekSession(sid)), set(do(op.ListResources(sid)))]
        return found


def false(reply: Any) -> bool:
    return reply is False


def settled(reply: op.Settled) -> bool:
    return (reply.counted, reply.dead, reply.size) == (0, (), 0)


Case = tuple[Callable[[Scene], op.Operation[Any]], Callable[[Any], bool] | None]

#: The operation, and how a second reply that isn't the first one says "already"; None: it must be the first one.
CASES: list[Case] = [
    (lambda s: create_op(s.fresh, user=USER, data={"a": b"b"}), None),
    (lambda s: op.OpenSession(s.live, (MAC,), touch=False), None),  # with a touch, that may count twice
    (lambda s: op.PeekSession(s.live), None),
    (lambda s: op.FindAlias(P, "a" * 32), None),
    (lambda s: op.RotateSession(s.live, (MAC,), NEW_MAC, "bob", FLAG_USER_BOOK), None),
    (lambda s: op.ExtendSession(s.live, 60_000, 0, WIDTH), None),
    (lambda s: op.SaveData(s.live, {"k": None, "x": b"y"}), None),
    (lambda s: op.SaveData(s.live, {"k": None, "x": b"y"}, MAC, True, 60_000, 0, WIDTH), None),
    (lambda s: op.EndSession(s.live, "user"), lambda r: (r.done, r.reason, r.live) == (False, "user", False)),
    (lambda s: op.Defer(s.live, "job-1", 5000), None),
    (lambda s: op.Defer(s.live, "job-1", 5000, s.file), None),
    (lambda s: op.Undefer(s.live, "job-0"), None),
    (lambda s: op.Register(s.live, "0" * 16, "f", DISK, 10), None),
    (
        lambda s: op.Register(s.live, "0" * 16, "f", DISK, 10, max_resources=3),
        lambda r: (r.status, r.evicted) == ("ok", ()),
    ),
    (lambda s: op.Register(s.live, "0" * 16, "s", PROCESS, 0, live=True), None),
    (lambda s: op.Grow(s.live, s.intent, 500), None),
    (lambda s: op.Commit(s.live, s.intent, 50), None),
    (lambda s: op.Release(s.live, s.file), None),
    (lambda s: op.UseResource(s.live, s.file), None),
    (lambda s: op.LiveResources(s.live), None),
    (lambda s: op.ListResources(s.live), None),
    (lambda s: op.Lease(P, DISK, "lease-9", 60_000), None),
    (lambda s: op.LeaseHeld(P, DISK, "lease-9"), None),
    (lambda s: op.Settle(s.over, DISK, (op.Attempt(s.owed, Outcome.DELETED),)), settled),
    (lambda s: op.Settle(s.over, DISK, (op.Attempt(s.owed, Outcome.BUSY, 5000),)), None),
    (lambda s: op.Settle(s.over, DISK, (op.Attempt(s.owed, Outcome.FAILED, 5000, "EIO"),)), settled),
    (lambda s: op.Settle(s.over, DISK, (op.Attempt(s.owed, Outcome.FAILED, 5000, "EIO"),), tries=1), settled),
    (lambda s: op.Settle(s.live, DISK, (op.Attempt(s.file, Outcome.PROMOTED),), own=True), settled),
    (lambda s: op.Queues(P), None),
    (lambda s: op.QueuePage(P, DISK), None),
    (lambda s: op.TryNow(s.over, s.owed), None),
    (lambda s: op.OutboxRead(P), None),
    (lambda s: op.OutboxDone(P, s.raw), lambda r: r == 0),
    (lambda s: op.HoldIdle(P, 5000), None),
    (lambda s: op.ListWheel(P), None),
    (lambda s: op.Mend(s.broken, WIDTH, GRACE), lambda r: r.what == ""),
    (lambda s: op.DeadLetters(P), None),
    (lambda s: op.RetryDead(s.over, s.dead), false),
    (lambda s: op.DropDead(s.over, s.dead), false),
    (lambda s: op.Owned(s.live, (s.file,)), None),
    (lambda s: op.Readopt(s.live, "0" * 16, DISK, 5), false),
    (lambda s: op.Reserve(USER, s.fresh, 5), lambda r: r.ok),
    (lambda s: op.Confirm(USER, s.live), None),
    (lambda s: op.GiveBack(USER, s.live), false),
    (lambda s: op.GiveBack(USER, s.live, s.file), false),
    (lambda s: op.BookPage(USER), None),
    (lambda s: op.Events(P), None),
    (lambda s: op.EventsBefore(P), None),
    (lambda s: op.TablePut("holds", "all", "{}"), false),
    (lambda s: op.TableDrop("holds", "all"), false),
    (lambda s: op.ReserveQuota(USER, s.live, s.file, 20), None),
    (lambda s: op.Meta(), None),
    (lambda s: op.SetMeta({"id": "two"}), None),
    (lambda s: op.SetMeta({"new": "two"}, only_new=True), false),
    (lambda s: op.SetMeta({"mark": "2"}, raise_only=True), false),
    (lambda s: op.RaiseMark("v1", 0, 5), None),
    (lambda s: op.Table("vols"), None),
    (lambda s: op.TablePut("vols", "v2", "y"), false),
    (lambda s: op.TableDrop("vols", "v1"), false),
    (lambda s: op.TakeLease("pass", "me", 60_000), None),
    (lambda s: op.DropLease("pass", "me"), false),
    (lambda s: op.Counters(P), None),
]


def name_of(case: Case) -> str:
    return "-".join(name for name in case[0].__code__.co_names if name[0].isupper() or name == "create_op")


@pytest.mark.parametrize("case", CASES, ids=[f"{number:02}-{name_of(case)}" for number, case in enumerate(CASES)])
def test_sent_again_it_changes_nothing(store: Subject, case: Case) -> None:
    make, already = case
    scene = Scene(store)
    operation = make(scene)
    assert operation.repeatable
    first = store.do(operation)
    state = scene.state()
    second = store.do(operation)
    assert scene.state() == state
    if already is None:
        assert second == first
    else:
        assert already(second), second


def test_every_repeatable_operation_is_tried() -> None:
    class Names:
        """Stands for a scene whose every id is some id."""

        raw = (b"x",)

        def __getattr__(self, name: str) -> str:
            return new_resource_id()

    tried = {type(make(Names())) for make, _ in CASES}  # type: ignore[arg-type]
    known = [kind for kind in vars(op).values() if isinstance(kind, type) and issubclass(kind, op.Operation)]
    repeatable = {kind for kind in known if kind.repeatable}
    # their replies tell the server's time and memory, or depend on the slice; neither writes
    assert repeatable - tried == {op.Facts, op.ScanSessions, op.Receipts}
