"""Clusters of real workers for each test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from worker_cluster import Cluster


@pytest.fixture
def make_cluster(redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Makes deployments; on the shared server and in the test's namespace unless told otherwise."""
    with contextlib.ExitStack() as stack:

        def make(url: str | None = None, name: str | None = None, **settings: str) -> Cluster:
            folder = tmp_path / (name or namespace)
            folder.mkdir()
            cluster = Cluster(url or redis_url, name or namespace, folder, **settings)
            stack.callback(cluster.close)
            return cluster

        yield make


@pytest.fixture
def cluster(make_cluster: Callable[..., Cluster]) -> Cluster:
    """One deployment."""
    return make_cluster()
