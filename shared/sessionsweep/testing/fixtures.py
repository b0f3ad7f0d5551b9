"""The pytest fixture `deployment`; name this module in `pytest_plugins`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sessionsweep.testing.deployment import Deployment


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """A deployment in memory with one volume in this test's temporary folder. Make another for other settings."""
    with Deployment(tmp_path) as made:
        yield made
