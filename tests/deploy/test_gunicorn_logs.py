"""The web nodes of docker-compose.yml: their log, told by strangers what to say."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from support.processes import wait_until

ROOT = Path(__file__).parents[2]
APP = """
def app(environ, start_response):
    raise RuntimeError(environ["PATH_INFO"])
"""


def test_no_request_forges_a_line(tmp_path: Path) -> None:
    (tmp_path / "forged.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "gunicorn", "-c", str(ROOT / "deploy/gunicorn.conf.py"), "--bind", f"127.0.0.1:{port}",
        "--workers", "1", "--worker-tmp-dir", str(tmp_path), "forged:app",
    ]  # fmt: skip
    output = tmp_path / "log"
    with output.open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
    try:
        wait_until(lambda: b"Booting worker" in output.read_bytes(), 30, "gunicorn serves")
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(
                b"GET /%0aERROR%20root:%20admin%20logged%20in HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            )
            while client.recv(4096):
                pass
        wait_until(lambda: b"RuntimeError" in output.read_bytes(), 30, "the error is logged")
    finally:
        process.terminate()
        assert process.wait(30) == 0
    lines = output.read_text().splitlines()
    assert [line for line in lines if line.startswith("ERROR root")] == []
    assert any("admin logged in" in line for line in lines), "it is logged, on a line that says whose it is"
