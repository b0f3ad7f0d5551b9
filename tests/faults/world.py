"""A small deployment on real disks with canary files around it, its actors, and what must hold when all has settled."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from faults.servers import faked_clock, libfaketime
from sessionsweep import InvalidTokenError, SessionSweepError
from sessionsweep.model.books import imbalance
from sessionsweep.model.ids import is_resource_id, is_session_id, new_resource_id, new_session_id
from sessionsweep.operator import holds, volumes
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.keys import partition_name
from sessionsweep.volumes.layout import FAN_OUT
from sessionsweep_workers.devstack.spawn import spawn, stop
from support.nodes import KEY, Node
from support.processes import wait_until

ACTOR = Path(__file__).with_name("actor.py")

#: Everything short, so that a schedule of a second sees each deadline pass several times.
SHORT: dict[str, Any] = {
    "idle_timeout": 0.6,
    "grace_period": 0.1,
    "max_duration": 5,
    "cleanup_interval": 0.2,
    "orphan_interval": 0.5,
    "orphan_min_age": 0,
    "hold": 0.4,
    "lease": 0.4,
    "intent_timeout": 0.6,
    "tombstone_retention": 60,
    "socket_timeout": 1,
    "max_resources_per_session": 1000,
    "secret_key": KEY,
}


class Nursery:
    """Starts actors by fork of a warm process, signals them by pid, and leaves none behind. A context manager.

    `environment` is added to theirs.
    """

    def __init__(self, log: Path, environment: Mapping[str, str] | None = None) -> None:
        self._log = log
        self._environment = {**os.environ, **(environment or {})}
        self._running: set[int] = set()

    def __enter__(self) -> Nursery:
        ours, theirs = socket.socketpair()
        with self._log.open("ab") as log, theirs:
            argv = [sys.executable, str(ACTOR), str(theirs.fileno())]
            self._child = spawn(argv, env=self._environment, stdout=log, pass_fds=[theirs.fileno()])
        ours.settimeout(30)
        self._channel = ours
        self._answers = ours.makefile("r")
        return self

    def __exit__(self, *error: object) -> None:
        for pid in list(self._running):
            self.kill(pid)
        self._answers.close()
        self._channel.close()
        stop(self._child)

    def start(self, **order: Any) -> int:
        """Forks an actor; its pid."""
        pid = self._ask({"do": "spawn", **order})
        self._running.add(pid)
        return pid

    def kill(self, pid: int) -> int:
        """`kill -9` (also of a stopped one); its exit status."""
        os.kill(pid, signal.SIGKILL)
        return self.reap(pid)

    def reap(self, pid: int) -> int:
        """Waits for its end: the exit status, negative for a signal. Until then the pid stays its own."""
        status = self._ask({"do": "reap", "pid": pid})
        self._running.discard(pid)
        return status

    def _ask(self, order: dict[str, Any]) -> int:
        self._channel.sendall(json.dumps(order).encode() + b"\n")
        answer = self._answers.readline()
        assert answer, f"the actors' parent ended:\n{self._log.read_text()[-3000:]}"
        return int(answer)


@dataclass(frozen=True)
class Actor:
    """A running child of a nursery."""

    pid: int
    role: str
    node: str
    nursery: Nursery


class Nurseries:
    """A nursery for each clock: actors of a node whose clock is wrong are children of a process whose clock is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[int, Nursery] = {}
        self._stack = contextlib.ExitStack()

    def of(self, offset: int) -> Nursery:
        """The nursery whose clock is so many seconds off; the right one where clocks can't be faked."""
        library = libfaketime()
        offset = offset if library else 0
        if offset not in self._made:
            # files keep the kernel's times, as those on a server's disk do
            faked = faked_clock(library, FAKETIME=f"{offset:+d}s", NO_FAKE_STAT="1") if library and offset else {}
            self._made[offset] = self._stack.enter_context(Nursery(self._folder / f"log{offset:+d}", faked))
        return self._made[offset]

    def close(self) -> None:
        """Ends them and all their children."""
        self._stack.close()


class World:
    """Nodes `a` and `b`, each with a disk of its own and one that both mount; canaries everywhere around."""

    def __init__(self, folder: Path, url: str, namespace: str, **settings: Any) -> None:
        self.folder = folder
        self.namespace = namespace
        self.url = url
        self.settings = {**SHORT, **settings}
        self.scratch = folder / "app"
        self.scratch.mkdir(parents=True)
        (folder / "disks").mkdir(exist_ok=True)
        self.journal_path = folder / "journal"
        self._read = 0
        self._facts: list[dict[str, Any]] = []
        self.nodes = {name: self.node(name) for name in "ab"}
        for node in self.nodes.values():
            assert node.mount() == []
        self.pass_once()  # from here on the store has a time mark
        with redis.Redis.from_url(url) as client:
            self._deployment = client.hget(f"{namespace}:{{g}}:meta", "deployment")
        self._canaries = dict(_plant(folder, [folder / "disks" / name for name in ("a", "b", "shared")]))

    def volumes(self, node: str) -> str:
        """SESSIONSWEEP_VOLUMES of a node."""
        disks = self.folder / "disks"
        return f"{node}={disks / node},shared={disks / 'shared'}"

    def node(self, name: str) -> Node:
        """A node inside this process; tests need its passes and its API when the actors are gone."""
        options = {**self.settings, "volumes": self.volumes(name)}
        return Node(self.url, self.namespace, self.folder, name, **options)

    def order(self, role: str, node: str, seed: object, **about: Any) -> dict[str, Any]:
        """What an actor needs to know."""
        settings = {
            **self.settings,
            "redis_url": about.pop("url", self.url),
            "namespace": self.namespace,
            "node": node,
            "volumes": self.volumes(node),
        }
        return {
            "role": role,
            "settings": settings,
            "seed": f"{seed} {role} {node}",
            "journal": str(self.journal_path),
            "scratch": str(self.scratch),
            "test_clock": False,
            "pause": 0.003,
            "only": "",
            "losing": False,
            **about,
        }

    def facts(self, kind: str) -> list[dict[str, Any]]:
        """What actors wrote down so far."""
        if self.journal_path.exists():
            with self.journal_path.open("rb") as journal:
                journal.seek(self._read)
                lines = journal.read().splitlines(keepends=True)
            for line in lines:
                if line.endswith(b"\n"):
                    self._read += len(line)
                    self._facts.append(json.loads(line))
        return [fact for fact in self._facts if fact["fact"] == kind]

    def done(self) -> Counter[int]:
        """How much each actor brought to its end without an error, by pid."""
        return Counter(fact["pid"] for fact in self.facts("did") if "Error" not in fact["what"])

    def did(self) -> Counter[str]:
        """How often actors did what: a schedule in which nothing happened proves nothing."""
        return Counter(str(fact["what"]) for fact in self.facts("did"))

    # settling and judging

    def files(self) -> list[Path]:
        """Files on the volumes that are ours by name, canaries apart."""
        found = []
        for path in (self.folder / "disks").glob("*/files/*/*/*"):
            ours = is_session_id(path.parent.name) and is_resource_id(path.name)
            link = path.is_symlink() or path.parent.is_symlink()
            if ours and not link and path not in self._canaries and path.is_file():
                found.append(path)
        return found

    def counters(self) -> Counter[str]:
        """The books of all partitions."""
        total: Counter[str] = Counter()
        store = self.nodes["a"].store
        for number in range(int(self.settings.get("partitions", 1))):
            total.update(store.execute(op.Counters(partition_name(number))))
        return total

    def pass_once(self) -> None:
        """Each pass of each node, once; a fault is for the next round."""
        for node in self.nodes.values():
            for one in (node.upkeep, node.sweep, node.reclaim, node.orphans):
                with contextlib.suppress(SessionSweepError):
                    one.run_once()  # type: ignore[attr-defined]

    def advance(self, seconds: float) -> None:
        """Moves the store's time, and each node's own clock with it."""
        for node in self.nodes.values():
            node._advanced += seconds
        self.nodes["a"].store.advance(round(seconds * 1000))

    def settle(self, timeout: float = 20.0, advance: float = 0.0, *, retry: bool = False) -> None:
        """Workers alone, until no session lives and nothing is owed.

        Args:
            advance: seconds of test time a round.
            retry: an operator has dead letters tried again.
        """

        def settled() -> bool:
            if advance:
                self.advance(advance)
            if retry:
                self.retry_dead()
            self.pass_once()
            books = self.counters()
            left = [books[name] for name in ("active", "owed", *(["dead"] if retry else []))]
            return not (any(left) or books["created"] - books["ended"] or self.files())

        try:
            wait_until(settled, timeout, "everything is reclaimed")
        except TimeoutError:
            left = [str(path) for path in self.files()]
            raise AssertionError(
                f"not settled: {self.holds()} {dict(self.counters())} left {len(left)}: {left[:5]}; "
                f"the store's keys are in {self.write_down()}"
            ) from None

    def write_down(self) -> Path:
        """What the store holds, as text, for whoever looks for a failure's cause; events and trends left out."""
        target = self.folder / "store.txt"
        with redis.Redis.from_url(self.url) as client, target.open("w") as text:
            for key in sorted(client.scan_iter(f"{self.namespace}:*")):
                kind = client.type(key).decode()
                if kind == "stream" or b":trend:" in key or b":l:trend" in key:
                    continue
                read: dict[str, Callable[[], object]] = {
                    "hash": lambda key=key: client.hgetall(key),
                    "zset": lambda key=key: client.zrange(key, 0, 99, withscores=True),
                    "list": lambda key=key: client.lrange(key, 0, 99),
                    "set": lambda key=key: client.smembers(key),
                    "string": lambda key=key: client.get(key),
                }
                text.write(f"{key!r} {client.pttl(key)} {read[kind]()!r}\n")
            text.write(f"{client.time()} {client.info('server')['run_id']}\n")
        return target

    def retry_dead(self) -> None:
        """What an operator does once the cause is mended."""
        store = self.nodes["a"].store
        for number in range(int(self.settings.get("partitions", 1))):
            for letter in store.execute(op.DeadLetters(partition_name(number))):
                store.execute(op.RetryDead(letter.session_id, letter.record.resource_id))

    def remembers_itself(self) -> bool:
        """Whether the store knows this deployment and a time mark of it: read past the product."""
        with redis.Redis.from_url(self.url) as client:
            found: Any = client.hget(f"{self.namespace}:{{g}}:meta", "deployment")
            return found == self._deployment and bool(client.exists(f"{self.namespace}:{{g}}:marks"))

    def held_until_an_operator_speaks(self) -> None:
        """A store that doesn't: nothing goes, whatever passes run; then an operator says that it is the right one."""
        before = self.files()
        for _ in range(3):
            self.pass_once()
        assert self.files() == before, "a store that lost everything has files deleted"
        reasons = set(self.holds().values())
        assert reasons & {"foreign-deployment", "rolled-back"}, reasons
        for node in self.nodes.values():
            for spec in node.settings.volumes:
                run(volumes.adopt(node.core, spec.name), node.store)
        self.pass_once()
        if "rolled-back" in self.holds().values():
            run(holds.lift(self.nodes["a"].core, "all"), self.nodes["a"].store)

    def expire_leases(self) -> None:
        """As a minute does: dead workers' leases run out in the server itself, which the tests' clock doesn't move."""
        with redis.Redis.from_url(self.url) as client:
            for key in client.scan_iter(f"{self.namespace}:{{g}}:l:*"):
                client.delete(key)

    def holds(self) -> dict[str, str]:
        """Holds by scope, with their reasons."""
        return {scope: hold.reason for scope, hold in self.nodes["a"].holds().items()}

    def judge(self, *, dead: int = 0, steady: bool = True) -> None:
        """The promises that hold whatever happened; call it when all has settled.

        Args:
            dead: dead letters that may be left.
            steady: the server lost no write, and its clock didn't step: no session may have ended while it was used.
        """
        books = self.counters()
        assert imbalance(books) == 0, dict(books)
        assert (books["active"], books["owed"], books["dead"]) == (0, 0, dead), dict(books)
        assert (books["b_active"], books["b_owed"]) == (0, 0), dict(books)
        self.canaries_are_whole()
        assert self.files() == []
        wrong = [fact["what"] for kind in ("wrong", *(["early"] if steady else [])) for fact in self.facts(kind)]
        assert not wrong, "\n".join(wrong[:20])
        for fact in self.facts("promoted"):
            path = Path(fact["path"])
            kept = (
                [path] if path.exists() else (self.folder / "disks").glob(f"*/kept/{path.name}")
            )  # disks were swapped
            assert [one.read_text() for one in kept] == [fact["content"]], fact
        for fact in self.facts("adopted"):
            assert not Path(fact["source"]).exists(), fact
        for token in {fact["token"] for kind in ("session", "dead") for fact in self.facts(kind)}:
            with pytest.raises(InvalidTokenError):
                self.nodes["b"].sessions.open(token)

    def canaries_are_whole(self) -> None:
        """No file that isn't ours was touched, moved or followed."""
        now = {path: _look(path) for path in self._canaries}
        assert now == self._canaries

    def close(self) -> None:
        """Closes connections."""
        for node in self.nodes.values():
            node.close()


def _look(path: Path) -> tuple[int, str]:
    """(inode, content or link target); what isn't there looks like nothing else."""
    try:
        status = path.lstat()
        return status.st_ino, os.readlink(path) if path.is_symlink() else path.read_text()
    except OSError as error:
        return 0, repr(error)


def _plant(folder: Path, roots: list[Path]) -> Iterator[tuple[Path, tuple[int, str]]]:
    """Files above, beside and inside the roots that only a mistake would destroy."""
    precious = folder / "precious"
    decoys = [folder / "above.txt", folder / "disks" / "beside.txt", precious / "file"]
    links: list[tuple[Path, Path]] = []
    for root in roots:
        one, two, three, four = (new_session_id("00") for _ in range(4))
        rid = new_resource_id(".bin")
        wrong_fan_out = next(name for name in ("zz", "yy") if name != four[2:4] and FAN_OUT.match(name))
        decoys += [
            root.with_name(root.name + "2") / "files" / one[2:4] / one / rid,  # a root that was never marked
            precious / one / rid,
            root / "own-notes.txt",
            root / "files" / "README",
            root / "files" / "lost+found" / one / rid,
            root / "files" / wrong_fan_out / four / rid,
            root / "files" / one[2:4] / "NOTES" / "notes.txt",
            root / "files" / two[2:4] / two / "Notes.txt",
            root / "kept" / f"{one}-{rid}",
        ]
        links += [
            (root / "files" / one[2:4] / one, precious / one),  # a folder of ours, swapped for a link
            (root / "files" / three[2:4] / three / rid, precious / "file"),
        ]
    for path in decoys:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"precious: {path}")
    for link, target in links:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    for path in (*decoys, *(link for link, _ in links)):
        yield path, _look(path)
