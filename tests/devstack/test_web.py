"""A web node of the stack: one process that serves the example, and says what is wrong with its settings."""

from __future__ import annotations

import http.client
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from sessionsweep_workers.devstack.ports import LOOPBACK, free_port
from sessionsweep_workers.devstack.readiness import answers
from support.processes import LocalProcess, wait_until

MakeNode = Callable[..., LocalProcess]


@pytest.fixture
def node(tmp_path: Path, redis_url: str, namespace: str) -> MakeNode:
    (tmp_path / "volume").mkdir()

    def make(port: int, **env: str) -> LocalProcess:
        check = answers(port, "/healthz").check
        settings = {
            "SESSIONSWEEP_REDIS_URL": redis_url,
            "SESSIONSWEEP_NAMESPACE": namespace,
            "SESSIONSWEEP_SECRET_KEY": "k" * 40,
            "SESSIONSWEEP_VOLUMES": f"v={tmp_path / 'volume'}",
            "SESSIONSWEEP_NODE": "node-v",
        }

        def ready() -> bool:
            try:
                return check is not None and check()
            except OSError:
                return False

        argv = ["python", "-P", "-m", "sessionsweep_workers.devstack.web", "--port", str(port)]
        return LocalProcess("web", argv, tmp_path, env={**settings, **env}, ready_when=ready)

    return make


def test_it_serves_on_loopback_and_ends_in_order(node: MakeNode) -> None:
    port = free_port()
    with node(port) as web:
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Server")) == (200, None)
        connection.close()
        web.send_signal(signal.SIGTERM)
        assert web.wait() == 0


def test_a_wrong_setting_is_named_on_one_line(node: MakeNode) -> None:
    web = node(free_port(), SESSIONSWEEP_IDLE_TIMEOUT="soon")
    with pytest.raises(RuntimeError, match="ended with 1"):
        web.start()
    assert "SESSIONSWEEP_IDLE_TIMEOUT" in web.logs()
    assert "Traceback" not in web.logs()


#: A node whose app fails at every address; Flask logs the address, which is a stranger's text.
FAILING = """
import sys
from flask import Flask
from sessionsweep_workers.devstack import web

app = Flask("failing")
app.get("/healthz", endpoint="health")(lambda: "ok")
app.get("/<path:path>", endpoint="fail")(lambda path: int(path))
web.load_example = lambda: app
sys.exit(web.main(sys.argv[1:]))
"""


def test_a_stranger_forges_no_line_of_its_log(node: MakeNode) -> None:
    port = free_port()
    web = node(port)
    web.argv[web.argv.index("-P") :] = ["-P", "-c", FAILING, "--port", str(port)]
    with web:
        for cut in ("%0a", "%0d", "%c2%85", "%e2%80%a8", "%1b[2J", "%e2%80%ae"):
            connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
            connection.request("GET", f"/{cut}ERROR%20root:%20forged")
            assert connection.getresponse().status == 500
            connection.close()
        wait_until(lambda: web.logs().count("Exception on /") == 6, what="each is logged")
        log = web.logs()
    assert log.count("ERROR root: forged") >= 6
    assert not [line for line in log.splitlines() if line.lstrip().startswith("ERROR root")]
    assert not set("\x1b\u202e") & set(log)
