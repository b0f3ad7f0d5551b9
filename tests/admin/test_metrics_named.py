"""Every metric and label that an alert or the Grafana dashboard names is in a real scrape, and is what docs tell of."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from admin_client import Admin
from flower.events import get_prometheus_metrics
from metrics_page import Page, page
from prometheus_client import REGISTRY, CollectorRegistry

from sessionsweep.model.holds import Hold
from sessionsweep.observe.prometheus import PrometheusMeter
from sessionsweep.store import operations as op
from sessionsweep_workers.devstack.server import EmbeddedServer

ROOT = Path(__file__).parents[2]
ALERTS = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text()
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "sessionsweep.json").read_text())
TARGETS = [target for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
NAME = re.compile(r"\b(?:sessionsweep|flower)_\w+")


@pytest.fixture
def seen(make_admin: Callable[..., Admin], own_server: Callable[..., EmbeddedServer]) -> Page:
    """A scrape of a deployment of which there is something to say of everything."""
    server = own_server()
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "100mb")
    admin = make_admin(url=server.url, sweeper="workers", max_sessions=9, max_sessions_per_user=9)
    node = admin.node
    node.upkeep.run_once()
    node.sweep.run_once()
    node.orphans.run_once()
    (volume,) = node.core.mounts.here()
    now = node.store.execute(op.Facts()).now
    node.store.execute(op.SetMeta({"beat_seen": str(now)}))
    node.store.execute(op.TablePut("holds", "idle", Hold("idle", "restarted", "", now, "a").encode()))
    ran = json.dumps({"state": "done", "at": now, "result": {"seconds": 0.1}})
    node.store.execute(op.TablePut("passes", f"last:sessionsweep.sweep_orphans:{volume.id}", ran))
    return page(admin)


def flowers() -> dict[str, set[str]]:
    """Flower's own metrics: name → labels."""
    get_prometheus_metrics()
    found: dict[str, set[str]] = {}
    for family in REGISTRY.collect():
        kinds = {"counter": ("_total",), "histogram": ("_sum", "_count", "_bucket")}.get(family.type, ("",))
        if family.name.startswith("flower_"):
            found.update({family.name + kind: {"worker", "type", "task"} for kind in kinds})
    return found


def measured() -> dict[str, set[str]]:
    """What a process measures of itself: name → labels."""
    registry = CollectorRegistry()
    meter = PrometheusMeter(registry)
    meter.operation("open", "ok", 0.1)
    meter.limit("MAX_SESSIONS")
    meter.file(1)
    meter.batch("sweep", 0.1)
    meter.ran("sweep", 0.1)
    meter.reclaimed("a", {"deleted": 1}, 1)
    found: dict[str, set[str]] = {}
    for sample in (sample for family in registry.collect() for sample in family.samples):
        found.setdefault(sample.name, set()).update(sample.labels)
    return found


def labels(seen: Page) -> dict[str, set[str]]:
    """Name → labels that any of its samples has."""
    found = {**flowers(), **measured()}
    for sample in seen.samples:
        found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_what_alerts_and_dashboard_name_is_scraped(seen: Page) -> None:
    exprs = re.findall(r"^ +expr: (.+)$", ALERTS, re.MULTILINE)
    assert len(exprs) == ALERTS.count("- alert:")
    named = {name for text in (*exprs, *(target["expr"] for target in TARGETS)) for name in NAME.findall(text)}
    assert len(named) > 40
    assert sorted(named - set(labels(seen))) == []


def test_labels_of_selectors_and_legends_exist(seen: Page) -> None:
    known = labels(seen)
    for target in TARGETS:
        names = NAME.findall(target["expr"])
        there = set().union(*(known[name] for name in names))
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= there, target
    for text in (ALERTS, *(target["expr"] for target in TARGETS)):
        for name, inner in re.findall(r"\b((?:sessionsweep|flower)_\w+)\{([^}]*)\}", text):
            assert set(re.findall(r"(\w+)\\?(?:=~|!=|=)", inner)) <= known[name], (name, inner)


def test_the_page_lists_all_metrics_and_no_other(seen: Page) -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    told = set(re.findall(r"^\| `(sessionsweep_\w+)", text, re.MULTILINE))
    own = {re.sub("_(count|sum|bucket|created)$", "", name) for name in measured()}
    own -= {name.removesuffix("_total") for name in own if name.endswith("_total")}  # where `_created` was
    families = {f"{family.name}_total" if family.type == "counter" else family.name for family in seen.families}
    assert sorted(told) == sorted(families | own)


def test_the_dashboard_is_whole() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["description"].endswith("."), panel["title"]


def test_compose_mounts_what_is_there() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    sources = re.findall(r"\./(deploy/[\w./-]+):", compose)
    assert {"deploy/prometheus", "deploy/grafana/provisioning", "deploy/grafana/dashboards"} <= set(sources)
    assert all((ROOT / source).exists() for source in sources)
    wanted = set(re.findall(r"\$\{(\w+):\?", compose))
    given = set(re.findall(r"^(\w+)=", (ROOT / "deploy" / "env.example").read_text(), re.MULTILINE))
    assert wanted <= given
