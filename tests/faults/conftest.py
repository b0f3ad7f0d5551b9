"""Schedules and seeds of the fault-injection suite: FAULT_SCHEDULES says how many, FAULT_SEED repeats one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.disks import private_mounts
from faults.world import Nurseries, Nursery

SCHEDULES = int(os.environ.get("FAULT_SCHEDULES", "3"))
SEED = os.environ.get("FAULT_SEED")
RUN = os.environ.get("FAULT_RUN", "1")  # another word, other schedules


def pytest_configure(config: pytest.Config) -> None:
    """Adds the marker."""
    config.addinivalue_line("markers", "schedules(share): the share of FAULT_SCHEDULES that a test runs")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `seed` runs once per schedule; `@pytest.mark.schedules(share)` runs that share of them."""
    if "seed" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("schedules")
        count = max(1, round(SCHEDULES * (marker.args[0] if marker else 1)))
        metafunc.parametrize("seed", [SEED] if SEED else [f"{RUN}-{n}" for n in range(count)])


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failure names its seed and how to repeat it."""
    outcome = yield
    report = outcome.get_result()
    seed = getattr(item, "callspec", None) and item.callspec.params.get("seed")
    if report.failed and seed:
        again = f"FAULT_SEED={seed} python -m pytest -m faults '{item.nodeid.partition('[')[0]}'"
        report.sections.append(("fault schedule", f"seed {seed}; repeat it: {again}"))


@pytest.fixture(scope="session")
def nurseries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nurseries]:
    """Where actors are forked, whatever their clocks show; they see what this process mounts."""
    private_mounts()  # where that isn't allowed, the tests that mount say so
    nurseries = Nurseries(tmp_path_factory.mktemp("actors"))
    yield nurseries
    nurseries.close()


@pytest.fixture(scope="session")
def nursery(nurseries: Nurseries) -> Nursery:
    """Where actors are forked whose clocks are right."""
    return nurseries.of(0)


@pytest.fixture
def fresh_name() -> Callable[[], str]:
    """Namespaces that nobody uses."""
    return lambda: f"f{secrets.token_hex(4)}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for a world."""
    return tmp_path / "world"
