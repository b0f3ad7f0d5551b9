"""What the web nodes of docker-compose.yml measure is told to the monitor, and to nobody who comes through nginx."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import httpx
import pytest

from sessionsweep_workers.devstack.ports import free_port
from support.nodes import KEY
from support.processes import LocalProcess

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def test_a_web_node_tells_its_processes_figures(tmp_path: Path, redis_url: str, namespace: str) -> None:
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
        url = web.wait_for_log(re.compile(r"Listening at: (http://\S+)"))[1]
        assert httpx.post(f"{url}/files", files={"file": ("a.wav", b"12345")}, timeout=30).status_code == 201
        told = httpx.get(f"{url}/metrics", timeout=30).text
    assert 'sessionsweep_operations_total{operation="create",outcome="ok"} 1.0' in told
    assert "sessionsweep_file_written_bytes_total 5.0" in told


@pytest.mark.skipif(shutil.which("nginx") is None and not os.environ.get("CI"), reason="no nginx here")
def test_nginx_keeps_it_from_strangers(tmp_path: Path) -> None:
    port, nowhere = free_port(), free_port()
    text = (DEPLOY / "nginx" / "nginx.conf").read_text()
    text = text.replace("/tmp/", f"{tmp_path}/").replace("listen 8080", f"listen 127.0.0.1:{port}")
    text = re.sub(r"(web-[ab]:8000|flower:5555)", f"127.0.0.1:{nowhere}", text)
    text = text.replace("/dev/stdout", str(tmp_path / "access")).replace("/dev/stderr", str(tmp_path / "errors"))
    (tmp_path / "nginx.conf").write_text(text.replace("user ", "# user "))

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/nginx-health", timeout=5).status_code == 204
        except httpx.TransportError:
            return False

    argv = ["nginx", "-e", str(tmp_path / "errors"), "-c", str(tmp_path / "nginx.conf"), "-g", "daemon off;"]
    with LocalProcess("nginx", argv, tmp_path, ready_when=answers) as _:
        asked = {
            path: httpx.get(f"http://127.0.0.1:{port}{path}", timeout=10).status_code
            for path in ("/metrics", "/metrics/", "//metrics", "/%6detrics", "/x/../metrics", "/at/a/metrics",
                         "/at/b//metrics/x", "/flower/metrics", "/metricsandmore", "/files")
        }  # fmt: skip
    open_ = {path for path, status in asked.items() if status != 404}
    assert open_ == {"/metricsandmore", "/files"}, asked  # 502: those would have been asked
