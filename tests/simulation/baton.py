"""Who runs: each actor stops before every word with the store, and the scheduler decides who goes on and what happens.

An actor is a greenlet, so the product's own code runs, unchanged, in flows and passes alike: its store hands control to
the scheduler, and goes on with the fate that the scheduler chose for this word. Nothing runs at the same time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any, TypeVar

from greenlet import GreenletExit, getcurrent, greenlet

from sessionsweep.errors import OutcomeUnknownError, StoreError, StoreUnavailableError
from sessionsweep.store import operations as op
from sessionsweep.volumes.files import NewFile

R = TypeVar("R")


class Fate(Enum):
    """What becomes of one word with the store."""

    DONE = "done"
    REFUSED = "refused"  # the server can't be reached: nothing happens
    REQUEST_LOST = "request lost"  # cut after sending, before it happened
    REPLY_LOST = "reply lost"  # cut after it happened


class Actor(greenlet):
    """One request of a client, or one run of a pass; `process` is the worker process that it keeps busy, if any."""

    def __init__(self, name: str, body: Callable[[Actor], None], process: object = None) -> None:
        super().__init__(self._run_body)
        self.name = name
        self.process = process
        self.operation: op.Operation[Any] | str | None = None  # what it is about to say
        self.files: list[NewFile] = []  # the locks that die with it
        self.killed = False
        self.stopped_until = 0  # ms: SIGSTOP until then
        self.problem: BaseException | None = None
        self.repeats = False  # what it says now was said before, and its answer lost
        self.looked: deque[tuple[int, str]] = deque(maxlen=3)  # time and server run of its last three words: a look
        self.leases: dict[str, tuple[int, str]] = {}  # location → (end of its last lease, the server's run)
        self.orphans: Counter[str] = Counter()  # volume id → destroyed in this run
        self._body = body

    def _run_body(self) -> None:
        try:
            self._body(self)
        except GreenletExit:
            pass
        except BaseException as problem:
            self.problem = problem

    def kill(self) -> None:
        """Its process dies here and now: its locks go, and it never says another word."""
        self.killed = True
        for file in self.files:
            file.let_go()

    def bury(self) -> None:
        """At the end of a schedule: unwinds a killed actor's stack, in which nothing can happen any more."""
        if not self.dead and self:
            self.throw(GreenletExit)


class SteppedStore:
    """The store as actors see it. `perform` carries out; `hub` is the scheduler's greenlet."""

    def __init__(
        self,
        perform: Callable[[op.Operation[Any], Actor | None], Any],
        moment: Callable[[], tuple[int, int, int]],
        accuse: Callable[[str], None],
    ) -> None:
        self._perform = perform
        self._moment = moment
        self._accuse = accuse
        self.hub = getcurrent()

    def execute(self, operation: op.Operation[R]) -> R:
        """See Store.execute: a word that may be sent twice is, if its answer is lost."""
        actor = getcurrent()
        if not isinstance(actor, Actor):
            return self._perform(operation, None)  # type: ignore[no-any-return]
        lost: tuple[Any, tuple[int, int, int]] | None = None  # an answer that didn't arrive
        for last in (False, True):
            fate = self._wait(actor, operation)
            before = self._moment()
            if fate is Fate.REFUSED:
                raise StoreUnavailableError("simulated: the server can't be reached")
            if fate is not Fate.REQUEST_LOST:
                actor.repeats = lost is not None
                reply = self._perform(operation, actor)
            if fate is Fate.REPLY_LOST:
                lost = reply, self._moment()
            if fate is Fate.DONE:
                if (
                    lost is not None
                    and lost[1] == before
                    and _said(lost[0]) != _said(reply)
                    and not _made_it_over(operation, lost[0])
                ):
                    self._accuse(f"{operation} was answered {_said(lost[0])}, and sent again {_said(reply)}")
                return reply  # type: ignore[no-any-return]
            if last or not operation.repeatable:
                raise OutcomeUnknownError("simulated: the connection was cut")
        raise AssertionError("unreachable")

    def execute_many(self, operations: Sequence[op.Operation[Any]]) -> list[Any | StoreError]:
        """See Store.execute_many: each by itself, others come between; look-ups that belong together are one look."""
        replies: list[Any | StoreError] = []
        for number, operation in enumerate(operations):
            try:
                if number and isinstance(operation, op.Owned):
                    replies.append(self._perform(operation, None))
                else:
                    replies.append(self.execute(operation))
            except StoreError as error:
                replies.append(error)
        return replies

    def nudges(self, locations: Sequence[str], poll: float) -> Iterator[str]:
        """Nobody listens: that passes run when the schedule says so is every nudge lost, doubled and late."""
        return iter(())

    def close(self) -> None:
        """Nothing to close."""

    def pause(self, what: str) -> None:
        """Others may run before an actor goes on with something that is no word with the store."""
        actor = getcurrent()
        if isinstance(actor, Actor):
            self._wait(actor, what)

    def _wait(self, actor: Actor, operation: op.Operation[Any] | str) -> Fate:
        if actor.killed:
            raise GreenletExit
        actor.operation = operation
        fate: Fate = self.hub.switch()
        if actor.killed:
            raise GreenletExit
        return fate


def _made_it_over(operation: op.Operation[Any], reply: Any) -> bool:
    """Whether a session is older than the maximum that it was just given: sent again, there is none to give it to."""
    return isinstance(operation, op.ExtendSession) and bool(reply.record) and reply.record.absolute_end <= reply.now


def _said(reply: Any) -> object:
    """What a reply tells its caller, as far as the same words sent again must tell it, too."""
    match reply:
        case op.Opened():
            return reply.record is not None  # why not is told once: the session that this ended is unknown then
        case op.Registered() | op.Share():
            return reply.status
        case op.Leased():
            return reply.entries
        case op.Reserved():
            return reply.ok
    return None
