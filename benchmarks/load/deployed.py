"""The two whole deployments under load, on loopback: `sessionsweep up`, and the same app on Flask-Session."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import redis

from benchmarks.load.http11 import Address
from sessionsweep.volumes.layout import FILES, relative
from sessionsweep_workers.devstack.ports import LOOPBACK, free_port
from sessionsweep_workers.devstack.process import FIRST_DELAY
from sessionsweep_workers.devstack.quiet import READY
from sessionsweep_workers.devstack.readiness import Readiness, answers
from sessionsweep_workers.devstack.server import EmbeddedServer
from sessionsweep_workers.devstack.spawn import Child, spawn, stop

ROOT = Path(__file__).parents[2]
#: Every acknowledged write is in the kernel before its reply leaves, so that `kill -9` of the server loses none and the
#: clients' record can be held against it. (What `everysec` may lose is tried in tests/faults/test_lost_writes.py.)
DURABLE = {"appendfsync": "no", "loglevel": "warning"}
START_WITHIN = 120.0  # seconds


class Side(ABC):
    """What both have: a server with an append-only file, nodes, files below `folder`, logs. A context manager."""

    name: str
    nodes: list[Address]

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ends = contextlib.ExitStack()

    def __enter__(self) -> Side:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._ends as ends:
            self.log: IO[bytes] = ends.enter_context((self.folder / "log").open("ab"))
            self.server = EmbeddedServer(self.folder / "redis", extra_config=DURABLE)
            ends.callback(self.server.stop)
            self.server.start()
            self.client: redis.Redis = redis.Redis.from_url(self.server.url, socket_timeout=5)
            ends.callback(self.client.close)
            self.start()
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    @abstractmethod
    def start(self) -> None:
        """Starts the rest."""

    def spawn(self, argv: list[str], env: Mapping[str, str]) -> Child:
        """A program in the log, stopped by its pid at the end."""
        child = spawn(argv, env=env, cwd=ROOT, stdout=self.log)
        self._ends.callback(stop, child, 15.0)
        return child

    @contextlib.contextmanager
    def another(self, role: str) -> Iterator[Callable[[], bool]]:
        """One more process like that role's present one meanwhile, killed in the end; none where that isn't there.
        What it yields tells whether it became ready and lives."""
        pid = self.pids().get(role, 0)
        try:
            argv, environ = (
                Path(f"/proc/{pid}/{what}").read_text().split("\0")[:-1] for what in ("cmdline", "environ")
            )
            cwd = Path(f"/proc/{pid}/cwd").readlink()
        except OSError:
            yield lambda: False
            return
        own = self.folder / f"another-{role}"  # it shares no file with the first
        argv = [str(own) if before == "--schedule" else word for before, word in zip(["", *argv], argv, strict=False)]
        env = dict(entry.split("=", 1) for entry in environ)
        own_log = own.with_suffix(".log")
        with own_log.open("wb") as log:
            twin = spawn(argv, env=env, cwd=cwd, stdout=log)
        try:
            yield lambda: twin.poll() is None and READY in own_log.read_text(errors="replace")
        finally:
            twin.kill()
            twin.wait()

    @abstractmethod
    def pids(self) -> dict[str, int]:
        """Role → pid of its present process."""

    @abstractmethod
    def files(self) -> list[Path]:
        """Files of sessions, on all disks."""

    @abstractmethod
    def to_be_deleted(self, node: Address, told: Mapping[str, str]) -> Path | None:
        """Where the file lies of which `node` told its ids, if somebody deletes it once its session has ended."""


def _until(ready: Readiness, child: Child, what: str) -> None:
    assert ready.check is not None
    deadline = time.monotonic() + START_WITHIN
    while True:
        with contextlib.suppress(OSError):
            if ready.check():
                return
        if child.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{what} didn't start; see its log")
        time.sleep(0.05)


class Up(Side):
    """`sessionsweep up` with `settings` (names in lower case), on a server that is ours to kill."""

    name = "sessionsweep"

    def __init__(self, folder: Path, settings: Mapping[str, object]) -> None:
        super().__init__(folder)
        self.settings = dict(settings)

    def start(self) -> None:
        """Waits until `up` says that all is ready."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONSWEEP_")}
        env |= {f"SESSIONSWEEP_{name.upper()}": str(value) for name, value in self.settings.items()}
        env["SESSIONSWEEP_REDIS_URL"] = self.server.url
        program = str(Path(sys.executable).with_name("sessionsweep"))
        self._up = self.spawn([program, "up", "--data-dir", str(self.folder / "up")], env)
        _until(Readiness(lambda: (self.folder / "up" / "up.json").exists()), self._up, f"up in {self.folder}")
        status = self.status
        self.nodes = [(LOOPBACK, int(urlsplit(web["url"]).port or 0)) for web in status["web"]]
        self.volumes = {name: Path(path) for name, path in status["volumes"].items()}
        self.own = [web["volume"] for web in status["web"]]  # the volume of each node, in the order of `nodes`

    @property
    def status(self) -> dict:
        """up.json."""
        return json.loads((self.folder / "up" / "up.json").read_text())

    def pids(self) -> dict[str, int]:
        """Of the children only whose parent is our supervisor now: a pid in up.json may be a dead process's."""
        found = {"supervisor": self._up.pid}
        if self.server.pid is not None:
            found["redis"] = self.server.pid
        status = self.status
        named = {name: status[name]["pid"] for name in ("beat", "flower", "admin")}
        named |= {one["name"]: one["pid"] for one in (*status["web"], *status["workers"])}
        return found | {name: pid for name, pid in named.items() if pid and _parent(pid) == self._up.pid}

    def files(self) -> list[Path]:
        """By their place alone: whatever lies where a session's file would."""
        return [path for root in self.volumes.values() for path in root.glob(f"{FILES}/*/*/*")]

    def to_be_deleted(self, node: Address, told: Mapping[str, str]) -> Path:
        """On the node's own volume."""
        root = self.volumes[self.own[self.nodes.index(node)]]
        return root / relative(told["session_id"], told["resource_id"])


def _parent(pid: int) -> int:
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return 0
    return 0 if state in "ZX" else int(parent)


class FlaskSession(Side):
    """The same routes on Flask-Session: two nodes under the same web server, started again whenever they died; nobody
    sweeps their files."""

    name = "Flask-Session"

    def __init__(self, folder: Path, idle_timeout: float) -> None:
        super().__init__(folder)
        self._idle_timeout = idle_timeout
        self._orders: dict[str, dict[str, object]] = {}
        self._children: dict[str, Child] = {}
        self._closed = threading.Event()
        self._error: BaseException | None = None
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)

    def start(self) -> None:
        """Waits until both nodes answer."""
        ports = {"a": free_port()}
        ports["b"] = free_port(frozenset(ports.values()))
        self.nodes = [(LOOPBACK, port) for port in ports.values()]
        for node, port in ports.items():
            self._orders[f"web-{node}"] = {
                "node": node,
                "port": port,
                "redis_url": self.server.url,
                "folder": str(self.folder / "files" / node),
                "nodes": {name: f"http://{LOOPBACK}:{port}" for name, port in ports.items()},
                "idle_timeout": self._idle_timeout,
            }
            self._start(f"web-{node}")
            self._ends.callback(self._stop, f"web-{node}")
        for node, port in ports.items():
            _until(answers(port, "/healthz"), self._children[f"web-{node}"], f"Flask-Session's node {node}")
        self._keeper.start()
        self._ends.callback(self._keep_no_more)  # before its nodes are stopped

    def _start(self, role: str) -> None:
        env = {**os.environ, "LOAD_NODE": json.dumps(self._orders[role])}
        argv = [sys.executable, "-m", "benchmarks.load.flask_session_app"]
        self._children[role] = spawn(argv, env=env, cwd=ROOT, stdout=self.log)

    def _stop(self, role: str) -> None:
        stop(self._children[role], 15.0)

    def _keep(self) -> None:
        """The thread. It waits before a restart for as long as `up` does."""
        try:
            while not self._closed.wait(0.05):
                for role, child in list(self._children.items()):
                    if child.poll() is not None and not self._closed.wait(FIRST_DELAY):
                        self._start(role)
        except BaseException as error:  # told in the end
            self._error = error

    def _keep_no_more(self) -> None:
        self._closed.set()
        self._keeper.join()
        if self._error is not None:
            raise RuntimeError("Flask-Session's nodes were no longer started again") from self._error

    def pids(self) -> dict[str, int]:
        """The server and the nodes that live."""
        found = {role: child.pid for role, child in list(self._children.items()) if child.poll() is None}
        return found | ({"redis": self.server.pid} if self.server.pid is not None else {})

    def files(self) -> list[Path]:
        """All of them, for nobody deletes any."""
        return [path for path in (self.folder / "files").glob("*/*/*") if path.is_file()]

    def to_be_deleted(self, node: Address, told: Mapping[str, str]) -> None:
        """Nobody deletes any."""


@contextlib.contextmanager
def both(folder: Path, settings: Mapping[str, object]) -> Iterator[tuple[Up, FlaskSession]]:
    """Both at once."""
    ours, theirs = Up(folder / "ours", settings), FlaskSession(folder / "theirs", float(str(settings["idle_timeout"])))
    with ours, theirs:
        yield ours, theirs
