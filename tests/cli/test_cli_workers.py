"""`sweep` where workers do it: sent, waited for, and what is said when none answers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from command_line import Deployment, orphan

from sessionsweep.store import operations as op
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.processes import LocalProcess, local_processes

WORKERS = {"SESSIONSWEEP_SWEEPER": "workers"}


@pytest.fixture
def worker(cli: Deployment, tmp_path: Path) -> Iterator[LocalProcess]:
    """A worker on the deployment's node."""
    argv = [
        "python",
        "-m",
        "celery",
        "-A",
        "sessionsweep_workers",
        "worker",
        "-n",
        "cli@%h",
        "-P",
        "threads",
        "-c",
        "2",
    ]
    argv += ["-l", "INFO", "--without-mingle", "--without-gossip"]
    process = LocalProcess("worker", argv, tmp_path, env={**cli.environ, **WORKERS}, ready_when=" ready.")
    with local_processes(process):
        yield process


@pytest.mark.smoke
@pytest.mark.usefixtures("worker")
def test_workers_sweep_and_the_command_line_waits_for_them(cli: Deployment) -> None:
    ended, _ = cli.with_file()
    cli.due(ended)
    done = cli.program("sweep", "idle", "--wait", "--timeout", "30s", "--json", **WORKERS).json()
    assert (done["where"], done["state"], done["node"]) == ("workers", "done", "node-a")
    assert not cli.alive(ended)
    lost = orphan(cli)
    orphans = cli.program("sweep", "orphans", "--wait", "--timeout", "30s", "--json", **WORKERS).json()
    assert orphans["state"] == "done"
    runs = [orphans, *orphans["parts"].values()]
    assert sum(run["result"].get("candidates", 0) for run in runs) == 1, orphans
    assert lost.exists()  # seen once only
    assert "expired by node-a" in cli.program("sweep", "expired", "--wait", "--timeout", "30s", **WORKERS).out


def test_without_wait_the_request_is_sent_and_named(cli: Deployment) -> None:
    request = cli.program("sweep", "idle", "--json", **WORKERS).json()["request_id"]
    assert request
    assert "Sent to the workers" in cli.program("sweep", "orphans", **WORKERS).out


def test_no_worker_within_the_time_is_a_failure_that_says_what_to_do(cli: Deployment) -> None:
    refused = cli.program("sweep", "idle", "--wait", "--timeout", "300ms", **WORKERS)
    assert refused.status == 1
    assert "--here" in refused.err
    assert refused.out == ""


def test_a_broker_that_is_away_is_a_message(cli: Deployment) -> None:
    done = cli.program("sweep", "idle", **WORKERS, SESSIONSWEEP_BROKER_URL="redis://:pass-word@127.0.0.1:1/0")
    assert (done.status, done.out) == (1, "")
    assert "broker" in done.err
    assert "pass-word" not in done.err
    assert "Traceback" not in done.err


def test_a_broker_that_is_full_is_not_said_to_be_away(
    make_cli: Callable[..., Deployment], own_server: Callable[..., EmbeddedServer]
) -> None:
    server = own_server()
    cli = make_cli(server.url)
    with redis.Redis.from_url(server.url) as client:
        session, path = cli.with_file()
        cli.due(session)
        client.config_set("maxmemory", 1)
        told = " ".join(cli("sweep", "idle", status=1, **WORKERS).err.split())
        assert "The broker's memory is full (maxmemory), so it takes no message." in told
        assert "is it running" not in told
        cli("sweep", "idle", "--here", **WORKERS)
        assert not path.exists(), "what the message advises helps"


def test_without_celery_it_runs_here(cli: Deployment) -> None:
    ended, path = cli.with_file()
    cli.due(ended)
    hidden = "import sys; sys.modules['celery'] = None; from sessionsweep.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", hidden, "sweep", "idle", "--json"],
        env={**cli.environ, **WORKERS},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "celery isn't installed" in done.stderr
    assert '"where": "here"' in done.stdout
    assert not path.exists()
    assert cli.store.execute(op.PeekSession(ended.id)).record is None
