"""A deployment of real processes: workers on nodes with volumes, beats, and the web side in this process."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import redis

from sessionsweep import Session, Sessions, Settings
from sessionsweep.store import operations as op
from support.processes import LocalProcess, LocalWorker, wait_until

CELERY = ("python", "-m", "celery", "-A")
PLAIN = ("-c", "2", "-l", "INFO", "--without-mingle", "--without-gossip")
KEY = "workers-test-key-" + "k" * 32
FAST = {
    "idle_timeout": "1",
    "grace_period": "0.2",
    "max_duration": "60",
    "cleanup_interval": "0.5",
    "orphan_interval": "3600",
    "hold": "0.5",
    "lease": "2",
}


class Cluster:
    """One deployment (a namespace on a server). `settings` are those of every node, as text."""

    def __init__(self, url: str, namespace: str, folder: Path, **settings: str) -> None:
        self.url = url
        self.namespace = namespace
        self.folder = folder
        self.settings = {**FAST, **settings}
        self._processes: list[LocalProcess] = []
        self._ends = contextlib.ExitStack()
        (folder / "volumes").mkdir()

    def close(self) -> None:
        """Stops everything that it started, the last first."""
        for process in self._processes:
            if process.running:
                process.send_signal(signal.SIGTERM)  # all at once, then each is waited for
        self._ends.close()

    def volumes(self, node: str, *shared: str) -> str:
        """The VOLUMES setting of a node: its own, and shared ones, all in this cluster's folder."""
        return ",".join(f"{name}={self.folder / 'volumes' / name}" for name in (node, *shared))

    def env(self, node: str, volumes: str | None = None) -> dict[str, str]:
        """The environment of a node's processes."""
        values = {
            **self.settings,
            "redis_url": self.url,
            "namespace": self.namespace,
            "secret_key": KEY,
            "node": node,
            "volumes": self.volumes(node) if volumes is None else volumes,
        }
        return {f"SESSIONSWEEP_{name.upper()}": value for name, value in values.items()}

    def worker(
        self,
        node: str = "a",
        *args: str,
        pool: str = "threads",
        volumes: str | None = None,
        env: Mapping[str, str | None] | None = None,
        app: str = "sessionsweep_workers",
        start: bool = True,
        plain: Sequence[str] = PLAIN,
    ) -> LocalWorker:
        """A node's worker, ready."""
        name = f"worker-{node}"
        worker = LocalWorker(
            name,
            [*CELERY, app, "worker", "-n", f"{name}-{self.namespace}@test", "-P", pool, *plain, *args],
            self.folder,
            env={**self.env(node, volumes), **(env or {})},
            cwd=self.folder,
            ready_when=re.compile(r" ready\.$", re.MULTILINE),
        )
        return self._add(worker, start)

    def beat(
        self, name: str = "beat", *args: str, app: str = "sessionsweep_workers", start: bool = True
    ) -> LocalProcess:
        """A beat, started."""
        beat = LocalProcess(
            name,
            [*CELERY, app, "beat", "-l", "INFO", "--pidfile=", *args],
            self.folder,
            env=self.env(name, ""),
            cwd=self.folder,
            ready_when="beat: Starting",
        )
        return self._add(beat, start)

    def _add(self, process: Any, start: bool) -> Any:
        self._ends.callback(process.stop, 1.0)
        self._processes.append(process)
        return process.start() if start else process

    def sessions(self, node: str = "a", volumes: str | None = None) -> Sessions:
        """The web side of a node."""
        values: dict[str, Any] = dict(self.settings)
        settings = Settings(
            redis_url=self.url,
            namespace=self.namespace,
            secret_key=KEY,
            node=node,
            volumes=self.volumes(node) if volumes is None else volumes,
            **values,
        )
        sessions = Sessions(settings)
        self._ends.callback(sessions.close)
        return sessions

    def broker(self) -> redis.Redis:
        """A client that sees the whole server."""
        client = redis.Redis.from_url(self.url, decode_responses=True)
        self._ends.callback(client.close)
        return client

    def queue_key(self, queue: str = "sessionsweep") -> str:
        """The list that holds a queue's messages."""
        return f"{self.namespace}:celery:{queue}"


def write(session: Session, count: int = 1, size: int = 100) -> list[Path]:
    """Committed files of a session."""
    paths = []
    for _ in range(count):
        with session.new_file("test", ".bin") as f:
            f.write(b"x" * size)
        paths.append(f.path)
    return paths


def session_with_files(sessions: Sessions, count: int = 1, **options: Any) -> tuple[Session, list[Path]]:
    """A session and its files; its idle time begins when all are written."""
    session, _ = sessions.create(**options)
    session.extend(idle=600)  # a busy machine may take longer for the files than the idle timeout
    paths = write(session, count)
    session.extend(idle=sessions.settings.idle_timeout)
    return session, paths


def left(paths: Sequence[Path]) -> int:
    """How many still exist."""
    return sum(path.exists() for path in paths)


def wait_gone(paths: Sequence[Path], timeout: float = 10.0) -> None:
    """Waits until none exists."""
    wait_until(lambda: not left(paths), timeout, f"{len(paths)} files are gone")


def wait_settled(sessions: Sessions, timeout: float = 10.0) -> None:
    """Waits until nothing is owed; then the books must balance."""
    wait_until(lambda: sessions.stats().resources["owed"] == 0, timeout, "nothing is owed")
    assert sessions.stats().imbalance == 0


def meta(sessions: Sessions) -> Mapping[str, str]:
    """The deployment's `meta`."""
    return sessions.store.execute(op.Meta())
