"""Several processes of one app count together, however they came to be, and also when one of them is killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.nodes import KEY
from support.processes import LocalProcess, wait_until
from support.raw_http import raw

ROOT = Path(__file__).parents[2]
GUNICORN = ["python", "-m", "gunicorn", "--no-control-socket", "--config", str(ROOT / "deploy" / "gunicorn.conf.py"),
            "-b", "127.0.0.1:0", "--threads", "4"]  # fmt: skip
UVICORN = ["python", "-m", "uvicorn", "--host", "127.0.0.1", "--port", "0"]
BOOTED = re.compile(r"Booting worker with pid: (\d+)|Started server process \[(\d+)\]")

Serve = Callable[..., LocalProcess]


@pytest.fixture
def serve(tmp_path: Path, redis_url: str, namespace: str) -> Iterator[Serve]:
    """Serves one of `measured_apps` in so many processes."""
    (tmp_path / "volume").mkdir()
    env = {
        "PYTHONPATH": os.pathsep.join((str(Path(__file__).parent), os.environ.get("PYTHONPATH", ""))),
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
        "SESSIONSWEEP_METRICS": "1",
        "SESSIONSWEEP_REDIS_URL": redis_url,
        "SESSIONSWEEP_NAMESPACE": namespace,
        "SESSIONSWEEP_SECRET_KEY": KEY,
        "SESSIONSWEEP_NODE": "node-v",
        "SESSIONSWEEP_SOCKET_TIMEOUT": "60",  # beside other tests a machine may stand still for more than 5
        "SESSIONSWEEP_VOLUMES": f"v={tmp_path / 'volume'}",
    }
    with contextlib.ExitStack() as stack:

        def start(argv: Sequence[str], workers: int) -> LocalProcess:
            process = LocalProcess("app", [*argv], tmp_path, env=env, ready_when=lambda: len(pids(process)) == workers)
            return stack.enter_context(process)

        yield start


def pids(server: LocalProcess) -> list[int]:
    return [int(one or other) for one, other in BOOTED.findall(server.logs())]


def address(server: LocalProcess) -> str:
    url = server.wait_for_log(re.compile(r"(?:Listening at:|running on) (http://[^\s,]+)"))[1]

    def listens() -> bool:
        try:
            socket.create_connection(url.removeprefix("http://").split(":"), 5).close()
        except ConnectionRefusedError:
            return False
        return True

    wait_until(listens, 30, "it listens")  # uvicorn's parent says so before any of its processes does
    return url


def visit(url: str, count: int) -> Counter[int]:
    """`count` new visitors write a file each, and another in a second request: who answered how often."""

    def one(_: int) -> list[int]:
        with httpx.Client(base_url=url, timeout=120, headers={"Connection": "close"}) as web:
            answers = [web.post("/file") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200], answers[0].text
        return [answer.json()["pid"] for answer in answers]

    with ThreadPoolExecutor(16) as pool:
        return Counter(pid for pair in pool.map(one, range(count)) for pid in pair)


def told(url: str) -> dict[str, float]:
    """What any process's /metrics says of all."""
    page = httpx.get(f"{url}/metrics", timeout=30, follow_redirects=True).text
    samples = [s for family in text_string_to_metric_families(page) for s in family.samples]
    return {
        "created": sum(s.value for s in samples if s.name == "sessionsweep_operations_total"
                       and s.labels == {"operation": "create", "outcome": "ok"}),
        "opened": sum(s.value for s in samples if s.name == "sessionsweep_operations_total"
                      and s.labels == {"operation": "open", "outcome": "ok"}),
        "timed": sum(s.value for s in samples if s.name == "sessionsweep_operation_seconds_count"
                     and s.labels == {"operation": "create"}),
        "files": sum(s.value for s in samples if s.name == "sessionsweep_files_written_total"),
        "bytes": sum(s.value for s in samples if s.name == "sessionsweep_file_written_bytes_total"),
    }  # fmt: skip


def hidden(url: str) -> None:
    """Paths that a proxy takes for others, and sends on as they came, don't lead to /metrics."""
    for path in ("/metrics/..", "/metrics/../x", "/metrics/%2e%2e/file", "/metrics/x"):
        assert raw(url, path)[0] == 404, path


def figures(visitors: int) -> dict[str, float]:
    """What `visit` amounts to."""
    return {"created": visitors, "opened": visitors, "timed": visitors, "files": 2 * visitors, "bytes": 20 * visitors}


@pytest.mark.parametrize("preload", [True, False])
def test_four_workers_add_up_and_a_killed_one_loses_nothing(serve: Serve, preload: bool) -> None:
    server = serve([*GUNICORN, "-w", "4", *(["--preload"] if preload else []), "measured_apps:flask_app()"], 4)
    url = address(server)
    answered = visit(url, 40)
    assert len(answered) > 1, "one worker alone answered; the test shows nothing"
    assert told(url) == figures(40)
    victim = answered.most_common(1)[0][0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(pids(server)) == 5, 30, "another took its place")
    assert victim not in visit(url, 20)
    assert told(url) == figures(60)
    hidden(url)


@pytest.mark.parametrize(
    "argv",
    [
        [*UVICORN, "--workers", "2", "measured_asgi:app"],
        [*GUNICORN, "-w", "2", "--preload", "measured_apps:django_app()"],
    ],
    ids=["FastAPI", "Django"],
)
def test_fastapi_and_django_alike(serve: Serve, argv: list[str]) -> None:
    url = address(serve(argv, 2))
    visit(url, 20)
    assert told(url) == figures(20)
    hidden(url)
