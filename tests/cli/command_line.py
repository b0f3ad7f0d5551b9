"""A deployment of one node, and the command line run on it: in this process, and as a program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from typer.testing import CliRunner

from sessionsweep import Session, Sessions, Settings
from sessionsweep.cli.app import app
from sessionsweep.model.holds import Hold
from sessionsweep.model.ids import new_resource_id, new_session_id
from sessionsweep.store import operations as op
from sessionsweep.volumes.volume import Volume
from support.processes import wait_until

KEY = "cli-test-key-" + "k" * 40
ADMIN = "admin-token-" + "t" * 40


@dataclass
class Answer:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        assert self.status == 0, self
        return json.loads(self.out)


class Deployment:
    """One node's environment: the app's side of it, and the command line's."""

    def __init__(self, url: str, namespace: str, root: Path) -> None:
        self.root = root
        self.environ = {
            "SESSIONSWEEP_REDIS_URL": url,
            "SESSIONSWEEP_NAMESPACE": namespace,
            "SESSIONSWEEP_SECRET_KEY": KEY,
            "SESSIONSWEEP_ADMIN_TOKEN": ADMIN,
            "SESSIONSWEEP_NODE": "node-a",
            "SESSIONSWEEP_VOLUMES": f"a={root / 'a'}",
            "SESSIONSWEEP_SWEEPER": "in-process",
            "SESSIONSWEEP_GRACE_PERIOD": "0",
            "SESSIONSWEEP_CLEANUP_INTERVAL": "1",
            "SESSIONSWEEP_ORPHAN_MIN_AGE": "0",
        }
        values = {name.removeprefix("SESSIONSWEEP_").lower(): value for name, value in self.environ.items()}
        self.settings = Settings(**values)
        self.sessions = Sessions(self.settings)
        self.store = self.sessions.store

    def __call__(self, *words: str, status: int = 0, **environ: str) -> Answer:
        """Runs a command in this process; its exit status must be `status`."""
        runner = CliRunner(env={**dict.fromkeys(_foreign()), **self.environ, "COLUMNS": "80", **environ})
        result = runner.invoke(app, list(words))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        answer = Answer(result.exit_code, result.stdout, result.stderr)
        assert answer.status == status, answer
        for secret in self.secrets():
            assert secret not in answer.out + answer.err
        return answer

    def program(self, *words: str, **environ: str) -> Answer:
        """Runs a command as a program of its own."""
        clean = {name: value for name, value in os.environ.items() if name not in _foreign()}
        done = subprocess.run(
            [sys.executable, "-c", "from sessionsweep.cli.main import main; main()", *words],
            env={**clean, **self.environ, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def secrets(self) -> list[str]:
        """What no output may hold."""
        password = self.environ["SESSIONSWEEP_REDIS_URL"].partition("@")[0].rpartition(":")[2]
        return [KEY, ADMIN, password]

    def with_file(self, content: bytes = b"x" * 100, **options: Any) -> tuple[Session, Path]:
        """A session that owns one file."""
        session, _ = self.sessions.create(**options)
        with session.new_file("upload", ".bin") as f:
            f.write(content)
        return session, f.path

    def due(self, session: Session) -> None:
        """Makes it idle, and waits until a sweep would look at it."""
        session.extend(idle=0.001)
        slot = session._record.filed
        wait_until(lambda: self.store.execute(op.Facts()).now > slot, what="its slot has ended")

    def hold(self, scope: str, reason: str, until: int = 0) -> None:
        """Puts a hold on record."""
        now = self.store.execute(op.Facts()).now
        hold = Hold(scope, reason, "something is [red]wrong[/red]", now, "node-a", until and now + until)
        self.store.execute(op.TablePut("holds", scope, hold.encode()))

    def alive(self, session: Session) -> bool:
        return self.sessions.get(session.id) is not None


def volume_of(cli: Deployment) -> Volume:
    return Volume.open(cli.root / "a", "a")


def beat(cli: Deployment, node: str, *volume_ids: str, ago: int = 0) -> None:
    """A heartbeat of a node's worker."""
    at = cli.store.execute(op.Facts()).now - ago
    row = {"at": at, "volumes": dict.fromkeys(volume_ids, "a"), "queues": []}
    cli.store.execute(op.TablePut("n", node, json.dumps(row)))


def flush(cli: Deployment) -> None:
    """What a FLUSHALL does to this deployment."""
    with redis.Redis.from_url(cli.settings.redis_url) as server:
        for key in server.scan_iter(f"{cli.settings.namespace}:*"):
            server.delete(key)


def orphan(cli: Deployment, content: bytes = b"lost") -> Path:
    """A file on the volume that no session owns."""
    sid = new_session_id("00")
    path = cli.root / "a" / "files" / sid[2:4] / sid / new_resource_id(".bin")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def _foreign() -> list[str]:
    return [name for name in os.environ if name.startswith("SESSIONSWEEP_") or name in ("NO_COLOR", "FORCE_COLOR")]
