"""The program that gets killed: a web node or a worker that works through a seeded stream of actions.

Run as `python actor.py FD`: it reads orders (JSON lines) from the socket FD and forks one child for each `spawn`, so
that an actor costs a fork and not a start of Python. What an actor was told for sure goes into its journal (JSON
lines), one write(2) each, which outlives `kill -9`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import signal
import socket
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults.boundaries import Boundaries
from faults.kinds import KINDS
from sessionsweep import (
    InvalidTokenError,
    LimitReachedError,
    ResourceNotFoundError,
    Session,
    Sessions,
    SessionSweepError,
    Settings,
    StoreError,
    VolumeError,
)
from sessionsweep.engine.orphans import Orphans
from sessionsweep.engine.reclaim import Reclaim
from sessionsweep.engine.sweep import Sweep
from sessionsweep.engine.trust import Trust
from sessionsweep.engine.upkeep import Upkeep
from sessionsweep.model.states import ResourceState
from sessionsweep.store import operations as op
from sessionsweep.store.redis.sync import RedisStore
from sessionsweep.volumes.layout import MARKER

PR_SET_PDEATHSIG = 1


class Journal:
    """Facts, one line each."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def tell(self, fact: str, **about: Any) -> None:
        """Writes one; it stands whatever happens to this process next."""
        os.write(self._descriptor, json.dumps({"fact": fact, "pid": os.getpid(), **about}).encode() + b"\n")


@dataclass
class Known:
    """A session as its client knows it: what was acknowledged, and nothing else."""

    session_id: str
    token: str
    mark: str
    made: float  # monotonic, before the call that made it
    seen: float  # monotonic, before the last call that found it alive and renewed it
    in_doubt: bool = False  # whether an end, or another token, of which no answer came yet
    files: dict[str, bytes] = field(default_factory=dict)


class Web:
    """A web node's actions, through the public API."""

    def __init__(self, order: dict[str, Any], journal: Journal) -> None:
        settings = Settings(**order["settings"])
        url, space = settings.redis_url, settings.namespace
        self.store = RedisStore(url, space, socket_timeout=settings.socket_timeout, test_clock=order["test_clock"])
        self.sessions = Sessions(settings, store=self.store)
        self.dice = random.Random(order["seed"])
        self.journal = journal
        self.scratch = Path(order["scratch"])
        self.mine: list[Known] = []
        self.count = 0
        self.losing = bool(order["losing"])  # the store may forget what it acknowledged
        self.patience = settings.idle_timeout / 2
        # the store's time passes as ours does, and what it acknowledged stays: who is used isn't over
        self.steady = not order["test_clock"] and not self.losing

    # what it does with one session

    def new_file(self, known: Known, session: Session) -> None:
        content = self._content(known)
        volume = self.dice.choice([spec.name for spec in self.sessions.settings.volumes])
        with session.new_file("fault", ".bin", volume=volume) as f:
            half = len(content) // 2
            f.write(content[:half])
            f.flush()
            f.write(content[half:])
        known.files[f.id] = content

    def temp_file(self, known: Known, session: Session) -> None:
        with session.temp_file(".tmp") as f:
            f.write(self._content(known))

    def failing_file(self, known: Known, session: Session) -> None:
        with contextlib.suppress(ZeroDivisionError), session.new_file("fails") as f:
            f.write(self._content(known))
            raise ZeroDivisionError

    def adopt(self, known: Known, session: Session) -> None:
        content = self._content(known)
        self.count += 1
        source = self.scratch / f"adopt-{os.getpid()}-{self.count}.bin"
        source.write_bytes(content)
        rid = session.adopt_file(source, "adopted")
        self.journal.tell("adopted", source=str(source))
        known.files[rid] = content

    def promote(self, known: Known, session: Session) -> None:
        if not known.files:
            return
        rid = self.dice.choice(list(known.files))
        content = known.files.pop(rid)
        to = None if self.dice.random() < 0.5 else self.scratch / f"promoted-{rid}"
        try:
            path = session.promote(rid, to)
        except ResourceNotFoundError:
            self._must_be_over(known, rid, f"promote: {rid} is not found")
        else:
            self.journal.tell("promoted", path=str(path), content=content.decode())

    def delete(self, known: Known, session: Session) -> None:
        if known.files:
            rid = self.dice.choice(list(known.files))
            del known.files[rid]
            with contextlib.suppress(ResourceNotFoundError):  # the reply was lost, and the repeat found it done
                session.delete(rid)

    def pin(self, known: Known, session: Session) -> None:
        if not known.files:
            return
        rid = self.dice.choice(list(known.files))
        try:
            with session.pin(rid, max=0.5) as opened:
                if opened.read() != known.files[rid]:
                    self.journal.tell("wrong", what=f"pinned {rid} has other bytes")
        except ResourceNotFoundError:
            self._must_be_over(known, rid, f"pin: {rid} is not found")

    def keep_alive(self, known: Known, session: Session) -> None:
        with session.keep_alive(max=0.5):
            self.new_file(known, session)

    def rotate(self, known: Known, session: Session) -> None:
        old = known.token
        known.in_doubt = True
        if self.dice.random() < 0.5:
            known.token = session.rotate()
        else:
            known.token = session.log_in(self.dice.choice(["ana", "bob"]))
        known.in_doubt = False
        self.journal.tell("session", token=known.token)
        self._must_refuse(old, "a rotated token")

    def save(self, known: Known, session: Session) -> None:
        session.data["n"] = self.dice.randrange(1000)
        session.save()

    def end(self, known: Known, session: Session) -> None:
        known.in_doubt = True
        session.end()
        self.mine.remove(known)
        self.journal.tell("dead", token=known.token)
        self._must_refuse(known.token, "an ended session's token")

    def tracked(self, known: Known, session: Session) -> None:
        # the other session may be over by now; what that says is nothing of the known one
        with contextlib.suppress(InvalidTokenError):
            other = self.sessions.track(f"key-{self.dice.randrange(4)}", user="eve")
            with other.new_file("tracked") as f:
                f.write(b"tracked")

    ACTIONS: ClassVar = {
        "new_file": 8, "adopt": 3, "promote": 2, "delete": 2, "pin": 2, "keep_alive": 1, "rotate": 1, "save": 1,
        "end": 2, "temp_file": 1, "failing_file": 1, "tracked": 1,
    }  # fmt: skip

    def create(self) -> Known:
        """A session whose data carries its own mark."""
        mark = f"{self.dice.getrandbits(64):016x}"
        user = self.dice.choice([None, None, "ana", "bob"])
        begun = time.monotonic()
        session, token = self.sessions.create(user=user, data={"mark": mark})
        self.journal.tell("session", token=token)
        known = Known(session.id, token, mark, begun, begun)
        self.mine.append(known)
        return known

    def act(self) -> None:
        """One seeded action. What the store's faults leave open is tried again, but for a session's end and token."""
        if not self.mine or (len(self.mine) < 5 and self.dice.random() < 0.15):
            try:
                self.create()
            except StoreError as error:
                self.journal.tell("did", what=f"create: {type(error).__name__}")
            return
        known = self.dice.choice(self.mine)
        what = self.dice.choices(list(self.ACTIONS), list(self.ACTIONS.values()))[0]
        try:
            begun, seen = time.monotonic(), known.seen
            session = self.sessions.open(known.token)
            known.seen = begun
            self._check(known, session, time.monotonic() - seen)
            getattr(self, what)(known, session)
            self.journal.tell("did", what=what)
        except InvalidTokenError as error:  # SessionEndedError is one
            self._over(known, error)
        except (StoreError, ResourceNotFoundError, LimitReachedError, VolumeError) as error:
            # a session that a fault hit is one that must be looked at again
            if known.in_doubt or (self.losing and isinstance(error, ResourceNotFoundError)):
                self._forget(known)
            self.journal.tell("did", what=f"{what}: {type(error).__name__}")

    def _over(self, known: Known, error: InvalidTokenError) -> None:
        """Its client is told that it is over. Nobody ends another actor's sessions, and no limit is set that would: it
        was idle, too old, ended by a call whose reply was lost, or, which must not be, while it was used."""
        self._forget(known)
        self.journal.tell("dead", token=known.token)
        now, settings = time.monotonic(), self.sessions.settings  # it goes on while this process is stopped
        idle, age = now - known.seen, now - known.made  # both at least as long as for the server
        young = not settings.max_duration or age < settings.max_duration
        if self.steady and idle < settings.idle_timeout and young and not known.in_doubt:
            what = f"{known.session_id}, {age:.3f} s old, was over {idle:.3f} s after it was used: {error!r}"
            self.journal.tell("early", what=what)

    def _forget(self, known: Known) -> None:
        if known in self.mine:
            self.mine.remove(known)

    def _check(self, known: Known, session: Session, unseen: float) -> None:
        """Its data and files; `unseen`: for at most so many seconds before, it hadn't been opened."""
        if session.id != known.session_id or session.data.get("mark") != known.mark:
            self.journal.tell("wrong", what=f"{known.session_id} opened as {session.id} {session.data}")
        for rid, content in known.files.items():
            try:
                with session.open_file(rid) as opened:
                    if opened.read() != content:
                        self.journal.tell("wrong", what=f"{rid} of live {session.id} has other bytes")
            except ResourceNotFoundError:
                if not self.losing:
                    self._must_be_over(known, rid, f"{rid} of a live session is missing")
                elif unseen < self.patience:
                    self._must_lie_there(known, rid, content)
                raise

    def _must_lie_there(self, known: Known, rid: str, content: bytes) -> None:
        """What the store forgot of a live session is on its disk all the same, until it is registered again. While a
        disk is away nothing can be said."""
        roots = [Path(spec.path) for spec in self.sessions.settings.volumes]
        found = [root / "files" / known.session_id[2:4] / known.session_id / rid for root in roots]
        before = self._disks_in_place()
        bytes_there = [path.read_bytes() for path in found if path.exists()]
        if not (before and self._disks_in_place()):
            return
        if bytes_there != [content] and self.sessions.get(known.session_id) is not None:
            self.journal.tell("wrong", what=f"{rid} of live {known.session_id}, forgotten, is not on its disk")

    def _disks_in_place(self) -> bool:
        """Neither unmounted nor swapped nor covered: each root has the marker that names it, and its own files."""
        specs = self.sessions.settings.volumes
        roots = [Path(spec.path) for spec in specs]
        try:
            named = [json.loads((root / MARKER).read_bytes())["name"] for root in roots]
            covered = [(root / "files").stat().st_dev != root.stat().st_dev for root in roots]
        except OSError:
            return False
        return named == [spec.name for spec in specs] and not any(covered)

    def _must_be_over(self, known: Known, rid: str, what: str) -> None:
        """A file may only be missing if its session is over. Alive now means alive then, but of one that was idle: once
        the server is replaced idle ends are held, so that it is alive again, and its files with it."""
        if self.losing or self.sessions.get(known.session_id) is None:
            return
        records = self.sessions.store.execute(op.ListResources(known.session_id))
        if any(record.resource_id == rid and record.state is ResourceState.LIVE for record in records):
            self.journal.tell("did", what="alive again")
        else:
            self.journal.tell("wrong", what=f"{known.session_id}: {what}; it has {records}")

    def _must_refuse(self, token: str, what: str) -> None:
        try:
            self.sessions.open(token)
        except InvalidTokenError:
            pass
        else:
            if not self.losing:  # else the store was rolled back in between
                self.journal.tell("wrong", what=f"{what} was let in")

    def _content(self, known: Known) -> bytes:
        return f"{known.session_id} {self.dice.getrandbits(64):016x} ".encode() * self.dice.choice([1, 20, 500])


class Worker:
    """A worker's passes, in a seeded order."""

    def __init__(self, order: dict[str, Any], journal: Journal) -> None:
        self.web = Web(order, journal)
        core, store = self.web.sessions.core, self.web.store
        trust = Trust(core, store)
        sweep, reclaim = Sweep(core, store, trust), Reclaim(core, store, trust)
        orphans, upkeep = Orphans(core, store, trust), Upkeep(core, store, trust)
        self.passes = {
            "sweep": lambda: sweep.run_once(budget=1, effort=1.0),
            "reclaim": lambda: reclaim.run_once(budget=1, effort=1.0),
            "orphans": lambda: orphans.run_once(budget=1, effort=1.0),
            "upkeep": upkeep.run_once,
        }

    def act(self) -> None:
        """One pass; a store that doesn't answer is waited for by trying again."""
        name = self.web.dice.choices(list(self.passes), [4, 4, 2, 1])[0]
        try:
            self.passes[name]()
        except SessionSweepError as error:
            self.web.journal.tell("did", what=f"{name}: {type(error).__name__}")
        else:
            self.web.journal.tell("did", what=name)


def forever(actor: Web | Worker, pause: float) -> None:
    """Until it is killed or told to stop (TERM), which it heeds between two actions."""
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    while not over.wait(pause):
        actor.act()


def stepwise(order: dict[str, Any], journal: Journal) -> None:
    """One action of a web node or one pass of a worker, killed or stopped at the boundary that is ordered."""
    web = Web(order, journal)
    boundaries = Boundaries(
        order["at"], order["signal"], lambda name: journal.tell("boundary", name=name), order["only"]
    )
    name = order["action"]
    if name in Worker(order, journal).passes:
        worker = Worker(order, journal)
        boundaries.install()
        boundaries.armed = True
        worker.passes[name]()
    elif name in KINDS:
        act = KINDS[name](order, web, journal)
        boundaries.install()
        boundaries.armed = True
        act()
    else:
        known = web.create()
        session = web.sessions.open(known.token)
        for _ in range(order.get("files", 0)):
            web.new_file(known, session)
        boundaries.install()
        boundaries.armed = True
        getattr(web, name)(known, session)
    boundaries.armed = False
    journal.tell("done", steps=boundaries.count)


def run(order: dict[str, Any]) -> int:
    """A forked child's whole life."""
    journal = Journal(order["journal"])
    try:
        if order["role"] == "web":
            forever(Web(order, journal), order["pause"])
        elif order["role"] == "worker":
            forever(Worker(order, journal), order["pause"])
        else:
            stepwise(order, journal)
    except BaseException:
        journal.tell("wrong", what=traceback.format_exc())
        return 1
    return 0


def main() -> int:
    """Forks actors until the socket closes."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    with channel, channel.makefile("r") as orders:
        for line in orders:
            order = json.loads(line)
            if order["do"] == "reap":
                _, status = os.waitpid(order["pid"], 0)
                answer = os.waitstatus_to_exitcode(status)
            else:
                parent = os.getpid()
                answer = os.fork()
                if answer == 0:
                    os.close(channel.fileno())
                    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                    if os.getppid() != parent:
                        os._exit(1)
                    os._exit(run(order))
            channel.sendall(f"{answer}\n".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
