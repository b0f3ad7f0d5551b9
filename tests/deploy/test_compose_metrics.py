"""What the web nodes of docker-compose.yml measure is told to the monitor, and to nobody who comes through nginx."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePath

import httpx
import pytest

from sessionsweep_workers.devstack.ports import free_port
from support.nodes import KEY
from support.processes import LocalProcess
from support.raw_http import raw

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None and not os.environ.get("CI"), reason="no nginx here")


#: What nginx takes for another path than a server that is sent it as it came might.
AROUND = ("/metrics/..", "/metrics/../", "/metrics/../files", "/metrics/%2e%2e/healthz", "/metrics/x/../../healthz")


@pytest.fixture
def node(tmp_path: Path, redis_url: str, namespace: str) -> Iterator[str]:
    """The address of a web node, as compose runs it."""
    (tmp_path / "volume").mkdir()
    env = {
        "PYTHONPATH": os.pathsep.join((str(DEPLOY), str(ROOT / "examples"), os.environ.get("PYTHONPATH", ""))),
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
        "SESSIONSWEEP_METRICS": "1",
        "SESSIONSWEEP_REDIS_URL": redis_url,
        "SESSIONSWEEP_NAMESPACE": namespace,
        "SESSIONSWEEP_SECRET_KEY": KEY,
        "SESSIONSWEEP_VOLUMES": f"v={tmp_path / 'volume'}",
    }
    argv = ["python", "-m", "gunicorn", "--no-control-socket", "-c", str(DEPLOY / "gunicorn.conf.py")]
    options = ["-b", "127.0.0.1:0", "-w", "1", "--worker-tmp-dir", str(tmp_path), "web:app"]
    with LocalProcess("web", [*argv, *options], tmp_path, env=env, ready_when="Booting worker") as web:
        yield web.wait_for_log(re.compile(r"Listening at: (http://\S+)"))[1]


@contextlib.contextmanager
def nginx(folder: Path, web: str) -> Iterator[str]:
    """The address of compose's nginx, before this web node."""
    port, nowhere = free_port(), f"127.0.0.1:{free_port()}"
    text = (DEPLOY / "nginx" / "nginx.conf").read_text()
    text = text.replace("/tmp/", f"{folder}/").replace("listen 8080", f"listen 127.0.0.1:{port}")
    text = re.sub(r"web-[ab]:8000", web or nowhere, text).replace("flower:5555", nowhere)
    text = text.replace("/dev/stdout", str(folder / "access")).replace("/dev/stderr", str(folder / "errors"))
    (folder / "nginx.conf").write_text(text.replace("user ", "# user "))

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/nginx-health", timeout=5).status_code == 204
        except httpx.TransportError:
            return False

    argv = ["nginx", "-e", str(folder / "errors"), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    with LocalProcess("nginx", argv, folder, ready_when=answers):
        yield f"http://127.0.0.1:{port}"


def test_a_web_node_tells_its_processes_figures_at_one_path(node: str) -> None:
    assert httpx.post(f"{node}/files", files={"file": ("a.wav", b"12345")}, timeout=30).status_code == 201
    told = httpx.get(f"{node}/metrics", timeout=30).text
    assert 'sessionsweep_operations_total{operation="create",outcome="ok"} 1.0' in told
    assert "sessionsweep_file_written_bytes_total 5.0" in told
    assert {raw(node, path)[0] for path in AROUND} == {404}


def test_no_upload_fills_the_disk_of_figures() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    folder = PurePath(re.findall(r"PROMETHEUS_MULTIPROC_DIR: (\S+)", compose)[0])
    disks = re.findall(r'^  tmpfs: \[/tmp, "(/[\w/]+):size=(\d+)m', compose, re.MULTILINE)
    assert [PurePath(path) for path, _ in disks] == [folder.parent]  # below it: that is made for the process's user
    services = re.findall(r"^  ([\w-]+):\n    <<: (.*)$", compose, re.MULTILINE)
    measured = {name for name, merged in services if merged == "[*measured-disks, *app]"}
    assert measured == set(re.findall(r"^  ([\w-]+):\n(?:    .*\n)*?      <<: .*\*measured,", compose, re.MULTILINE))
    assert len(measured) == 4


@needs_nginx
def test_nginx_keeps_it_from_strangers(tmp_path: Path) -> None:
    with nginx(tmp_path, web="") as front:
        asked = {
            path: raw(front, path)[0]
            for path in ("/metrics", "/metrics/", "//metrics", "/%6detrics", "/x/../metrics", "/at/a/metrics",
                         "/at/b//metrics/x", "/flower/metrics", "/metricsandmore", "/files")
        }  # fmt: skip
    open_ = {path for path, status in asked.items() if status != 404}
    assert open_ == {"/metricsandmore", "/files"}, asked  # 502: those would have been asked


@needs_nginx
def test_no_way_through_nginx_leads_to_a_node_s(tmp_path: Path, node: str) -> None:
    ways = ("/metrics", "/metrics/", "//metrics", "/metrics;x", "/at/a/metrics", "/at/a/metrics/../x", *AROUND)
    with nginx(tmp_path, web=node.removeprefix("http://")) as front:
        assert raw(front, "/healthz")[0] == 200
        told = {path: raw(front, path) for path in ways}
    assert {path for path, (status, page) in told.items() if status == 200 and b"sessionsweep_" in page} == set()
