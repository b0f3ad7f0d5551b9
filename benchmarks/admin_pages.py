"""P15 to P17: what a scrape, a page of the list and the dashboard's first page cost, among few sessions and many."""

from __future__ import annotations

import contextlib
import functools
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.deployment import Deployment
from benchmarks.goals import Goal, Row, Scale
from benchmarks.measure import interleaved
from sessionsweep.admin import create_admin
from sessionsweep.engine.upkeep import Upkeep

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have httpx2, which nothing else here needs
    from starlette.testclient import TestClient

FEW = 1000  # sessions
TOKEN = "benchmark-token-of-the-admin-side-" + "t" * 16
Side = tuple[Deployment, TestClient]
PAGES = {
    "P15": ("a scrape of /metrics", "/metrics"),
    "P16": ("a page of 100 sessions of the list (API)", "/admin/sessions?limit=100"),
    "P17": ("the dashboard's first page", "/admin/"),
}


def scrape(scale: Scale) -> list[Row]:
    """P15."""
    return _measured(scale)["P15"]


def listing(scale: Scale) -> list[Row]:
    """P16."""
    return _measured(scale)["P16"]


def overview(scale: Scale) -> list[Row]:
    """P17."""
    return _measured(scale)["P17"]


@functools.cache
def _measured(scale: Scale) -> dict[str, list[Row]]:
    """All three on two deployments at once, with many sessions and with few, asked in turns: filling takes longest."""
    with _filled(scale.sessions) as many, _filled(FEW) as few:
        return {name: _rows(name, scale, many, few) for name in PAGES}


def _rows(name: str, scale: Scale, many: Side, few: Side) -> list[Row]:
    what, path = PAGES[name]
    sides = {side: partial(_ask, web, path) for side, (_, web) in (("many", many), ("few", few))}
    counts = _commands(many[0], sides["many"]), _commands(few[0], sides["few"])
    t = interleaved(sides, rounds=scale.rounds, calls=20)
    took = [f"{1000 / t.rate(side):.1f} ms" for side in sides]
    longest = _longest(many[0], sides["many"]), _longest(few[0], sides["few"])
    return [
        Row(name, f"commands of {what} among {scale.sessions:,}, scripts' calls included; among {FEW:,}",
            str(counts[0]), str(counts[1]), counts[0] / counts[1], Goal(1, 1)),
        Row(name, "… its time", *took, 1 / t.ratio("many", "few"), Goal(most=1.5)),
        Row(name, "… its longest command in the server, median (and worst) of 20 requests, ms",
            *(f"{statistics.median(times):.2f} ms ({times[-1]:.2f})" for times in longest),
            statistics.median(longest[0]), Goal(most=5)),
    ]  # fmt: skip


def _ask(web: TestClient, path: str) -> None:
    answer = web.get(path)
    assert answer.status_code == 200, answer.text


@contextlib.contextmanager
def _filled(count: int) -> Iterator[Side]:
    """A deployment with a volume, a node and so many sessions, and a client of its admin side."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "volume").mkdir()
        settings = {"volumes": f"a={folder}/volume", "node": "a", "admin_token": TOKEN, "sweeper": "in-process"}
        with Deployment(**settings) as d:
            d.sessions.core.background = False
            d.fill(count)
            Upkeep(d.sessions.core, d.store).run_once()
            with TestClient(create_admin(sessions=d.sessions), headers={"Sec-Fetch-Site": "same-origin"}) as web:
                web.post("/admin/ui/login", data={"token": TOKEN}, follow_redirects=False)
                web.headers["X-Admin-Token"] = TOKEN
                for _, path in PAGES.values():
                    _ask(web, path)  # connections and scripts are there
                yield d, web


def _commands(d: Deployment, ask: Callable[[], object]) -> int:
    """The median of five, as something of its own may happen meanwhile; what counting costs is taken off."""

    def counted() -> int:
        return int(d.client.info("stats")["total_commands_processed"])

    found = []
    for _ in range(5):
        before = counted()
        ask()
        found.append(counted() - before - 1)
    return int(statistics.median(found))


def _longest(d: Deployment, ask: Callable[[], object]) -> list[float]:
    """Milliseconds that the longest command of each of twenty requests took, by the server's slow log, shortest first.

    That is time on the clock: on a busy machine a few have waited for their processor.
    """
    d.client.config_set("slowlog-max-len", 10_000)
    d.client.config_set("slowlog-log-slower-than", 0)
    found = []
    for _ in range(20):
        d.client.slowlog_reset()
        ask()
        found.append(max(entry["duration"] for entry in d.client.slowlog_get(10_000)) / 1000)
    d.client.config_set("slowlog-log-slower-than", -1)
    return sorted(found)
