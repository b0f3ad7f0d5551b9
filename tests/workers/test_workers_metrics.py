"""What a worker's processes measured, as it serves it: its pool's children count, too; half the truth is refused."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from worker_cluster import Cluster, write

from sessionsweep_workers.devstack.ports import free_port
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
