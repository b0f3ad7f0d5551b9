"""Flower's own metrics, from a real one behind a password as in compose: what the Grafana dashboard draws is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families
from worker_cluster import CELERY, Cluster

from sessionsweep_workers.devstack.ports import free_port
from support.processes import LocalProcess, wait_until

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "sessionsweep.json").read_text())
EXPRS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


def test_what_the_dashboard_draws_of_flower_is_there_without_its_password(cluster: Cluster, tmp_path: Path) -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    assert "--url-prefix=flower" in compose
    monitor = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text()
    path = re.findall(r"job_name: flower.*?metrics_path: (\S+)", monitor, re.DOTALL)[0]
    cluster.worker(pool="prefork")
    port = free_port()
    base = f"http://127.0.0.1:{port}"

    def up() -> bool:
        try:
            return httpx.get(f"{base}/flower/healthcheck", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    argv = [*CELERY, "sessionsweep_workers", "flower", "--address=127.0.0.1", f"--port={port}", "--url-prefix=flower"]
    env = {**cluster.env("flower", ""), "FLOWER_BASIC_AUTH": "flower:secret-of-flower"}
    with LocalProcess("flower", argv, tmp_path, env=env, cwd=tmp_path, ready_when=up, ready_timeout=60):
        assert httpx.get(f"{base}/flower/api/workers", timeout=10).status_code == 401, "it asks for its password"
        order = f"{base}/flower/api/task/async-apply/sessionsweep.reclaim"
        named = {name for expr in EXPRS for name in re.findall(r"\bflower_\w+", expr)}
        assert len(named) >= 6

        def told() -> dict[str, set[str]]:
            page = httpx.get(base + path, timeout=10)
            assert page.status_code == 200, "no password is asked for"
            found: dict[str, set[str]] = {}
            for sample in (s for family in text_string_to_metric_families(page.text) for s in family.samples):
                found.setdefault(sample.name, set()).update(sample.labels)
            return found

        def complete() -> bool:
            httpx.post(order, json={}, auth=("flower", "secret-of-flower"), timeout=10).raise_for_status()
            return named <= set(told())

        wait_until(complete, 60, f"Flower tells all of {sorted(named)}")
        known = told()
        for expr in EXPRS:
            for name, inner in re.findall(r"\b(flower_\w+)\{([^}]*)\}", expr):
                assert set(re.findall(r"(\w+)=~?", inner)) <= known[name], expr
