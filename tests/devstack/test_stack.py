"""The whole of `up`, for real: server, web nodes, workers, beat and Flower."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import redis

from sessionsweep_workers.devstack.server import EmbeddedServer
from support.processes import LocalProcess, descendants, wait_gone, wait_until

pytestmark = pytest.mark.smoke

RUN = """
import sys
from pathlib import Path
from sessionsweep.errors import ConfigurationError
from sessionsweep_workers.devstack.stack import run
try:
    sys.exit(run(Path(sys.argv[1]) if sys.argv[1] else None, None, verbose="--verbose" in sys.argv))
except ConfigurationError as error:
    sys.exit(f'refused: {error}')
"""


class Up(LocalProcess):
    """`up` on a folder of its own, or on a temporary one (`folder` None)."""

    def __init__(self, folder: Path | None, log_dir: Path, *options: str, **env: str | None) -> None:
        self.folder = folder
        clean = {name: None for name in os.environ if name.startswith("SESSIONSWEEP_")}
        super().__init__(
            "up",
            ["python", "-c", RUN, str(folder or ""), *options],
            log_dir,
            env={**clean, "TMPDIR": str(log_dir), **env},
            ready_when="All is ready",
            ready_timeout=90,
        )

    @property
    def status_path(self) -> Path:
        if self.folder is None:
            (found,) = self.log_path.parent.glob("sessionsweep-up-*")
            return found / "up.json"
        return self.folder / "up.json"

    @property
    def up(self) -> dict[str, Any]:
        return dict(json.loads(self.status_path.read_text()))

    def pids(self) -> dict[str, int]:
        up = self.up
        single = {name: up[name]["pid"] for name in ("beat", "redis", "flower", "admin")}
        return {**single, **{item["name"]: item["pid"] for item in (*up["web"], *up["workers"])}}

    def wait_new_pid(self, name: str, old: int) -> None:
        wait_until(lambda: self.pids()[name] != old, 60, f"{name} restarted; {self.tail()}")


def get(url: str, path: str, credentials: bool = True) -> int:
    """The status of a GET."""
    address = urlsplit(url)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    headers = {}
    if credentials and address.username:
        pair = base64.b64encode(f"{address.username}:{address.password}".encode()).decode()
        headers["Authorization"] = f"Basic {pair}"
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One stack for all tests that leave it running."""
    base = tmp_path_factory.mktemp("up")
    stack = Up(base / "data", base, SESSIONSWEEP_IDLE_TIMEOUT="7m")
    try:
        yield stack.start()
    finally:
        stack.stop(timeout=12)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def make(folder: Path | None, *options: str, **env: str) -> Up:
        log_dir = tmp_path / f"log{len(started)}"
        log_dir.mkdir()
        started.append(Up(folder, log_dir, *options, **env))
        return started[-1].start()

    yield make
    for stack in started:
        stack.stop(timeout=12)


def test_up_json_names_everything_that_runs_and_it_answers(up: Up) -> None:
    said = up.up
    assert said["supervisor"] == {"pid": up.pid}
    assert [web["volume"] for web in said["web"]] == ["a", "b"]
    assert [worker["volumes"] for worker in said["workers"]] == [["a", "shared"], ["b", "shared"]]
    assert sorted(said["volumes"]) == ["a", "b", "shared"]
    assert all(Path(path).is_dir() for path in said["volumes"].values())
    assert stat.S_IMODE(up.status_path.stat().st_mode) == 0o600
    for web in said["web"]:
        assert get(web["url"], "/healthz") == 200
        assert web["url"] in up.logs()
    assert get(said["flower_url"], "/api/workers") == 200
    assert get(said["flower_url"], "/api/workers", credentials=False) == 401
    with redis.Redis.from_url(said["redis_url"]) as client:
        assert client.config_get("appendonly")["appendonly"] == "yes"


def test_the_admin_side_takes_the_token_that_is_printed_and_sends_sweeps(up: Up) -> None:
    said = re.search(r"^admin +(\S+)/admin/sessions +X-Admin-Token: (\S+)$", up.logs(), re.MULTILINE)
    assert said is not None
    assert said[1] == up.up["admin_url"]
    seen = re.search(r"^dashboard +(\S+)  log in with the admin token$", up.logs(), re.MULTILINE)
    assert seen is not None
    form = {"token": said[2]}
    with httpx.Client(headers={"Sec-Fetch-Site": "same-origin"}, follow_redirects=True, timeout=20) as browser:
        assert "Admin token" in browser.get(seen[1]).text
        assert "Overview" in browser.post(f"{seen[1]}ui/login", data=form).text
    for token, status in ((said[2], 200), ("wrong", 401)):
        answer = httpx.get(f"{said[1]}/admin/nodes", headers={"X-Admin-Token": token}, timeout=20)
        assert answer.status_code == status, answer.text
    with httpx.Client(base_url=said[1], headers={"X-Admin-Token": said[2]}, timeout=20) as web:
        sent = web.post("/admin/sweeps/orphans")
        assert sent.status_code == 202
        wait_until(lambda: web.get(sent.headers["Location"]).json().get("state") == "done", 60, "the sweep ended")
        assert "sessionsweep.sweep_orphans" in {run["name"] for run in web.get("/admin/sweeps").json()["sweeps"]}


def test_one_pid_is_one_process(up: Up) -> None:
    """Nobody but what `up.json` names, and the undertaker: nothing to be left behind when one is killed."""
    wait_until(lambda: len(descendants(up.pid)) == 9)
    (undertaker,) = descendants(up.pid) - set(up.pids().values())
    assert b"undertaker.py" in Path(f"/proc/{undertaker}/cmdline").read_bytes()


def test_every_process_holds_the_folders_lock(up: Up) -> None:
    """So that nobody takes the folder while one process of a killed stack still works in it."""
    assert up.folder is not None
    for pid in {up.pid, *descendants(up.pid)}:
        opened = {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()}
        assert str(up.folder / "up.lock") in opened


def test_no_secret_in_any_command_line(up: Up) -> None:
    said = up.up
    assert up.folder is not None
    secrets = [
        urlsplit(said["redis_url"]).password,
        urlsplit(said["flower_url"]).password,
        (up.folder / "secret-key").read_text().strip(),
        (up.folder / "admin-token").read_text().strip(),
    ]
    for pid in descendants(up.pid):
        words = Path(f"/proc/{pid}/cmdline").read_text()
        assert not [secret for secret in secrets if secret is None or secret in words]


def test_settings_of_the_environment_hold_and_nodes_have_their_own(up: Up) -> None:
    for name, pid in up.pids().items():
        lines = Path(f"/proc/{pid}/environ").read_text().split("\0")
        ours = dict(line.split("=", 1) for line in lines if line.startswith("SESSIONSWEEP_"))
        if name == "redis":
            assert ours == {}
            continue
        assert ours["SESSIONSWEEP_IDLE_TIMEOUT"] == "7m"
        letter = "a" if name == "admin" else name[-1] if name[:-1] in ("web-", "worker-") else None
        assert ours.get("SESSIONSWEEP_NODE") == (f"node-{letter}" if letter else None)
        if letter:
            assert re.fullmatch(rf"{letter}=\S+/{letter},shared=\S+/shared", ours["SESSIONSWEEP_VOLUMES"])


@pytest.mark.parametrize("name", ["worker-a", "web-b", "beat", "flower"])
def test_a_killed_process_comes_back_with_its_new_pid_in_up_json(up: Up, name: str) -> None:
    before, addresses = up.pids(), [web["url"] for web in up.up["web"]]
    os.kill(before[name], signal.SIGKILL)
    up.wait_new_pid(name, before[name])
    after = up.pids()
    assert {n for n in after if after[n] != before[n]} == {name}
    assert [web["url"] for web in up.up["web"]] == addresses
    assert all(get(url, "/healthz") == 200 for url in addresses)


def test_a_killed_server_comes_back_with_its_data_and_address(up: Up) -> None:
    url, pid = up.up["redis_url"], up.pids()["redis"]
    with redis.Redis.from_url(url) as client:
        client.set("unrelated", "kept")
    os.kill(pid, signal.SIGKILL)
    up.wait_new_pid("redis", pid)
    assert up.up["redis_url"] == url
    with redis.Redis.from_url(url) as client:
        assert client.get("unrelated") == b"kept"


def test_a_second_up_on_the_folder_is_refused(up: Up) -> None:
    second = subprocess.run(
        [sys.executable, "-c", RUN, str(up.folder)], capture_output=True, text=True, timeout=30, check=False
    )
    assert second.returncode == 1
    assert re.search(rf"refused: .*{up.folder} is in use .*pid {up.pid}\b", second.stderr)
    assert up.status_path.exists()


def test_a_restart_on_the_folder_goes_on_where_it_was_however_it_ended(
    start: Callable[..., Up], tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    first = start(folder)
    said, family = first.up, descendants(first.pid)
    with redis.Redis.from_url(said["redis_url"]) as client:
        client.set("unrelated", "kept")
    begin = time.monotonic()
    first.send_signal(signal.SIGINT)
    assert first.wait(15) == 0
    assert time.monotonic() - begin < 10
    wait_gone(*family)
    assert "killed, as it took too long" not in first.logs()
    assert not first.status_path.exists()

    second = start(folder)
    again, family = second.up, descendants(second.pid)
    assert again["redis_url"] == said["redis_url"]
    assert [web["url"] for web in again["web"]] == [web["url"] for web in said["web"]]
    os.kill(second.pid, signal.SIGKILL)
    wait_gone(*family)

    third = start(folder)
    with redis.Redis.from_url(third.up["redis_url"]) as client:
        assert client.get("unrelated") == b"kept"


def test_beside_another_on_its_own_server_and_a_temporary_folder(
    up: Up, start: Callable[..., Up], own_server: Callable[..., EmbeddedServer]
) -> None:
    server, untouched = own_server(), up.pids()
    other = start(None, SESSIONSWEEP_REDIS_URL=server.url, SESSIONSWEEP_NAMESPACE="other")
    said, folder = other.up, other.status_path.parent
    assert said["redis"] == {"pid": None}
    assert said["redis_url"] == server.url
    assert str(folder) in other.logs()
    assert not {web["url"] for web in said["web"]} & {web["url"] for web in up.up["web"]}
    other.send_signal(signal.SIGTERM)
    assert other.wait(15) == 0
    assert not folder.exists()
    assert server.answers()
    assert up.pids() == untouched
    assert all(get(web["url"], "/healthz") == 200 for web in up.up["web"])


#: What programs say of themselves when they start, and nobody needs.
NOISE = (
    "[tasks]",
    "celery beat v",
    "Registered tasks",
    "Connected to",
    "Serving on",
    "Valkey is starting",
    "sent sess",
)


def test_a_start_says_where_to_look_and_little_else(up: Up) -> None:
    said = up.logs().partition("All is ready")[0]
    assert [noise for noise in NOISE if noise in said] == []
    for address in [web["url"] for web in up.up["web"]] + [
        up.up["flower_url"],
        f"{up.up['admin_url']}/admin/sessions",
        f"{up.up['admin_url']}/admin/ ",
        str(up.folder / "env"),
    ]:
        assert len([line for line in said.splitlines() if address in line]) == 1, address
    assert "Ctrl-C stops it" in up.logs()


def test_what_is_deleted_is_news_and_what_cant_be_is_a_warning(up: Up) -> None:
    """Quiet is not mute."""
    web, volume = up.up["web"][0]["url"], Path(up.up["volumes"]["a"])
    address = urlsplit(web)
    assert address.hostname is not None
    for obstructed, expected in ((False, "reclaim: deleted 1, 5 B"), (True, "could not delete")):
        before = len(up.logs())
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
        form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="n.wav"\r\n\r\nhello\r\n--x--\r\n'
        connection.request("POST", "/files", form, {"Content-Type": "multipart/form-data; boundary=x"})
        answer = connection.getresponse()
        made = json.loads(answer.read())
        cookie = str(answer.getheader("Set-Cookie")).partition(";")[0]
        (file,) = volume.glob(f"files/*/{made['session_id']}/{made['resource_id']}")
        if obstructed:
            file.unlink()
            file.mkdir()
        connection.request("POST", "/logout", headers={"Cookie": cookie})
        assert connection.getresponse().status == 204
        connection.close()
        up.wait_for_log(expected, 30, after=before)


def test_the_command_line_finds_its_settings_in_the_folder(up: Up) -> None:
    assert up.folder is not None
    environment = up.folder / "env"
    assert stat.S_IMODE(environment.stat().st_mode) == 0o600
    program = f"{sys.executable} -c 'from sessionsweep.cli.main import main; main()' stats --json"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONSWEEP_")}
    done = subprocess.run(
        ["sh", "-c", f". {environment}; {program}"], env=clean, capture_output=True, text=True, timeout=30, check=True
    )
    seen = json.loads(done.stdout)
    assert {node["name"]: node["alive"] for node in seen["nodes"]} == {"node-a": True, "node-b": True}
    assert {volume["name"] for volume in seen["volumes"]} == {"a", "b", "shared"}


def test_secrets_of_the_users_own_are_written_nowhere_and_verbose_shows_all_but_them(
    start: Callable[..., Up], tmp_path: Path
) -> None:
    key, token, folder = "my-own-key-" + "k" * 40, "my-own-token-" + "t" * 40, tmp_path / "data"
    own = {"SECRET_KEY": key, "ADMIN_TOKEN": token, "NAMESPACE": "mine"}
    stack = start(folder, "--verbose", **{f"SESSIONSWEEP_{name}": value for name, value in own.items()})
    assert [noise for noise in NOISE[:5] if noise not in stack.logs()] == []
    assert httpx.get(f"{stack.up['admin_url']}/admin/sessions", headers={"X-Admin-Token": token}).status_code == 200
    knowing = {name for name, pid in stack.pids().items() if token in Path(f"/proc/{pid}/environ").read_text()}
    assert knowing == {"admin"}, "the token is the admin side's alone"
    environment = folder / "env"
    assert "SESSIONSWEEP_NAMESPACE=mine" in environment.read_text()
    written = [path.read_text() for path in folder.glob("*") if path.is_file()] + [stack.logs()]
    assert not [text for text in written if key in text or token in text]
    stack.send_signal(signal.SIGINT)
    assert stack.wait(15) == 0
    assert re.search(r"Stopping; .*All is stopped\. What it kept is in \S+data\.$", stack.logs().strip(), re.DOTALL)
    assert not environment.exists()


def test_an_admin_token_that_is_none_is_said_before_anything_starts(tmp_path: Path) -> None:
    stack = Up(tmp_path / "data", tmp_path, SESSIONSWEEP_ADMIN_TOKEN="read some-token whenever")
    with pytest.raises(RuntimeError, match=r"(?s)ended with 1.*SESSIONSWEEP_ADMIN_TOKEN: entry 1"):
        stack.start()
    assert "Starting" not in stack.logs()


def test_a_server_of_ones_own_that_cant_be_used_is_named_with_the_fix(
    tmp_path: Path, own_server: Callable[..., EmbeddedServer]
) -> None:
    full = own_server(extra_config={"maxmemory-policy": "allkeys-lru"})
    for url, words in (
        (
            "redis://:pass-word@127.0.0.1:1/0",
            r":\*\*\*@127.0.0.1:1/0 can't be used: .*refused.*unset the variable",
        ),
        (full.url.replace(full.password, "pass-word"), r"can't be used: .*password.*unset the variable"),
        (full.url, r"allkeys-lru"),
    ):
        stack = Up(tmp_path / "data", tmp_path, SESSIONSWEEP_REDIS_URL=url)
        with pytest.raises(RuntimeError, match=rf"(?s)ended with 1.*{words}"):
            stack.start()
        assert "pass-word" not in stack.logs()
        assert "Starting" not in stack.logs(), "nothing was started"


def test_impossible_settings_are_refused_before_anything_starts(tmp_path: Path) -> None:
    for env, words in (
        ({"SESSIONSWEEP_REDIS_URL": "memory://"}, "memory://"),
        ({"SESSIONSWEEP_IDLE_TIMEOUT": "soon"}, "SESSIONSWEEP_IDLE_TIMEOUT"),
    ):
        stack = Up(tmp_path / "data", tmp_path, **env)
        with pytest.raises(RuntimeError, match=rf"ended with 1[^$]*refused[^$]*{words}"):
            stack.start()
        assert not (tmp_path / "data" / "redis").exists()
