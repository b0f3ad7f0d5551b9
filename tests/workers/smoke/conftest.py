"""pytest-celery's clusters, made of local processes instead of containers: one deployment for all smoke tests.

Two nodes, each with a volume and a worker, a volume that both share, and a beat.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from pytest_celery import (
    CeleryBackendCluster,
    CeleryBrokerCluster,
    CeleryTestBroker,
    CeleryTestSetup,
    CeleryTestWorker,
    CeleryWorkerCluster,
)
from worker_cluster import Cluster

from sessionsweep_workers.application import build
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.processes import LocalProcess


@pytest.fixture(scope="session")
def deployment(redis_server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The web side of what the workers below belong to."""
    cluster = Cluster(redis_server.url, f"smoke{secrets.token_hex(3)}", tmp_path_factory.mktemp("smoke"))
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def celery_broker_cluster(redis_server: EmbeddedServer) -> CeleryBrokerCluster:
    """The server, as it is asked for by name and URL; nobody restarts it here."""
    about = {"url": redis_server.url, "host_url": redis_server.url}
    server = LocalProcess("redis", ["python"], redis_server.folder, ready_when=redis_server.answers, celeryconfig=about)
    server.ready = redis_server.answers  # type: ignore[method-assign]
    return CeleryBrokerCluster(CeleryTestBroker(server))


@pytest.fixture(scope="session")
def celery_backend_cluster() -> CeleryBackendCluster | None:
    """None: results are records in the store."""
    return None


@pytest.fixture(scope="session")
def celery_worker_cluster(deployment: Cluster) -> Iterator[CeleryWorkerCluster]:
    """A worker on each of two nodes, one prefork, one with threads, and a beat."""
    app = build(deployment.sessions("a").settings)
    workers = [
        deployment.worker(node, pool=pool, volumes=deployment.volumes(node, "shared"), start=False)
        for node, pool in (("a", "prefork"), ("b", "threads"))
    ]
    for worker in workers:
        worker.start(wait=False)
    deployment.beat()
    cluster = CeleryWorkerCluster(*(CeleryTestWorker(worker, app) for worker in workers))
    assert cluster.ready()
    yield cluster
    app.close()


@pytest.fixture
def celery_setup(
    celery_worker_cluster: CeleryWorkerCluster, celery_broker_cluster: CeleryBrokerCluster
) -> CeleryTestSetup:
    """All of it."""
    return CeleryTestSetup(celery_worker_cluster, celery_broker_cluster, None, celery_worker_cluster[0].app)
