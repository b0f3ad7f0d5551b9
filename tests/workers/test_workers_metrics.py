"""What a worker's processes measured, as it serves it: its pool's children count, too; half the truth is refused."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from worker_cluster import Cluster, write

from sessionsweep_workers.devstack.ports import free_port
from sessionsweep_workers.metrics_server import MetricsServer
from support.processes import wait_until


def figure(port: int, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    page = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
    samples = (s for family in text_string_to_metric_families(page) for s in family.samples)
    return sum(s.value for s in samples if s.name == f"sessionsweep_{name}" and labels.items() <= s.labels.items())


def test_a_prefork_pool_is_measured_whole(cluster: Cluster, tmp_path: Path) -> None:
    port = free_port()
    env = {
        "SESSIONSWEEP_METRICS": "1",
        "SESSIONSWEEP_METRICS_ADDRESS": str(port),
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
    }
    worker = cluster.worker(pool="prefork", env=env)
    sessions = cluster.sessions()
    for _ in range(5):
        session, _ = sessions.create()
        write(session, 2, size=100)
        session.end()
    wait_until(lambda: figure(port, "reclaimed_total", volume="a", outcome="deleted") == 10, 30, "ten are counted")
    assert figure(port, "reclaimed_bytes_total", volume="a") == 1000
    assert figure(port, "pass_seconds_count", task="reclaim") > 0
    assert figure(port, "batch_seconds_count", task="reclaim") > 0
    counting = {path.stem.rpartition("_")[2] for path in (tmp_path / "metrics").iterdir()}
    assert counting - {str(worker.pid)}, "no child of the pool counted; the test shows nothing"
    worker.stop()
    with pytest.raises(httpx.TransportError):
        figure(port, "reclaimed_total")


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"SESSIONSWEEP_METRICS": ""}, "SESSIONSWEEP_METRICS=1"),
        ({"PROMETHEUS_MULTIPROC_DIR": None}, "PROMETHEUS_MULTIPROC_DIR"),
    ],
)
def test_what_would_tell_half_the_truth_is_refused(
    cluster: Cluster, tmp_path: Path, env: dict[str, str | None], told: str
) -> None:
    whole = {
        "SESSIONSWEEP_METRICS": "1",
        "SESSIONSWEEP_METRICS_ADDRESS": str(free_port()),
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
    }
    worker = cluster.worker(pool="prefork", env={**whole, **env}, start=False)
    worker.start(wait=False)
    assert worker.wait(60) != 0
    assert "ConfigurationError" in worker.logs()
    assert told in worker.logs()


def open_descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_who_only_connects_costs_a_worker_next_to_nothing(cluster: Cluster) -> None:
    port = free_port()
    worker = cluster.worker(env={"SESSIONSWEEP_METRICS": "1", "SESSIONSWEEP_METRICS_ADDRESS": str(port)})
    session, _ = cluster.sessions().create()
    write(session, 1)
    before, threads = open_descriptors(worker.pid), len(list(Path(f"/proc/{worker.pid}/task").iterdir()))
    with contextlib.ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
        assert figure(port, "operations_total") >= 0  # accepted after them: by now all of theirs have been, too
        assert open_descriptors(worker.pid) - before < 100
        assert len(list(Path(f"/proc/{worker.pid}/task").iterdir())) - threads < 20
        session.end()
        wait_until(lambda: figure(port, "reclaimed_total", volume="a", outcome="deleted") == 1, 30, "it deletes")
    worker.stop()
    assert "Traceback" not in worker.logs(), "who connects fills the log"


def test_a_scrape_has_a_few_seconds_in_all_however_often_it_says_something(cluster: Cluster) -> None:
    port = free_port()
    cluster.worker(env={"SESSIONSWEEP_METRICS": "1", "SESSIONSWEEP_METRICS_ADDRESS": str(port)})
    with socket.create_connection(("127.0.0.1", port)) as slow:
        for _ in range(4000):  # fewer bytes than a request may have
            if select.select([slow], [], [], 0.05)[0]:
                break  # closed
            slow.send(b"x")
        else:
            pytest.fail("it was listened to for as long as it spoke")


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("GET /metrics?x=1 HTTP/1.1", "200"),
        ("GET /metrics/.. HTTP/1.1", "404"),
        ("GET / HTTP/1.1", "404"),
        ("POST /metrics HTTP/1.1", "405"),
        ("garbage", "404"),
    ],
)
def test_one_page_is_served(asked: str, status: str) -> None:
    told = ask(asked, lambda: (b"told", "text/plain"))
    assert told.startswith(f"HTTP/1.1 {status} ".encode())
    assert told.endswith(b"told") is (status == "200")


def test_a_page_that_fails_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    told = ask("GET /metrics HTTP/1.1", lambda: (Path("/nonexistent").read_bytes(), "text/plain"))
    assert told.startswith(b"HTTP/1.1 500 ")
    assert "No such file" in caplog.text


def ask(asked: str, page: Callable[[], tuple[bytes, str]]) -> bytes:
    """What a server answers, that is then gone."""
    port = free_port()
    server = MetricsServer("127.0.0.1", port, page)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            client.sendall(f"{asked}\r\nHost: x\r\n\r\n".encode())
            told = b"".join(iter(lambda: client.recv(4096), b""))
    finally:
        server.stop()
        server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    return told
