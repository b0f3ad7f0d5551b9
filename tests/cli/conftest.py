"""A deployment of a test's own, with the command line on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import Deployment


@pytest.fixture
def make_cli(redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Callable[..., Deployment]]:
    made: list[Deployment] = []

    def make(url: str | None = None) -> Deployment:
        made.append(Deployment(url or redis_url, namespace, tmp_path))
        return made[-1]

    yield make
    for one in made:
        one.sessions.close()


@pytest.fixture
def cli(make_cli: Callable[..., Deployment]) -> Deployment:
    """The command line on a deployment of its own."""
    return make_cli()
