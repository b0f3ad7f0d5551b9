"""The servers that people run: gunicorn that forks a loaded app, Flask's reloader, the in-memory store in both."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from sessionsweep_workers.devstack.ports import free_port
from sessionsweep_workers.devstack.web import example_parent
from support.nodes import KEY
from support.processes import LocalProcess, wait_until

EXAMPLE = "voice_notes.app:create_app()"
CLIENTS = 50
WORKERS = 4

Serve = Callable[..., LocalProcess]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    here = Path(__file__).parent
    (tmp_path / "volume").mkdir()
    return {
        "PYTHONPATH": os.pathsep.join((str(example_parent()), str(here), os.environ.get("PYTHONPATH", ""))),
        "SESSIONSWEEP_SECRET_KEY": KEY,
        "SESSIONSWEEP_NODE": "node-v",
        "SESSIONSWEEP_VOLUMES": f"v={tmp_path / 'volume'}",
    }


@pytest.fixture
def gunicorn(tmp_path: Path, environment: dict[str, str]) -> Iterator[Serve]:
    """Serves an app with gunicorn's threads, loaded before the fork; ready when all workers run."""
    with contextlib.ExitStack() as stack:

        def serve(app: str, workers: int = WORKERS, **env: str) -> LocalProcess:
            options = ["--preload", "-w", str(workers), "-k", "gthread", "--threads", "8", "-b", "127.0.0.1:0"]
            process = LocalProcess(
                "gunicorn",
                ["python", "-m", "gunicorn", "--no-control-socket", *options, app],
                tmp_path,
                env={**environment, **env},
                ready_when=lambda: len(worker_pids(process)) == workers,
            )
            return stack.enter_context(process)

        yield serve


def worker_pids(server: LocalProcess) -> list[int]:
    return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", server.logs())]


def address(server: LocalProcess) -> str:
    return server.wait_for_log(re.compile(r"(?:Listening at:|Running on) (http://\S+)"))[1]


def sockets_to(pid: int, port: int) -> set[str]:
    """The inodes of a process's own sockets that are connected to a port of this machine."""
    wanted = set()
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[2].rpartition(":")[2], 16) == port and fields[3] == "01":  # established
            wanted.add(f"socket:[{fields[9]}]")
    held = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            held.add(os.readlink(entry))
    return wanted & held


def in_parallel(work: Callable[[int], None]) -> None:
    """`work(number)` for each client, all begun at once."""
    start = threading.Barrier(CLIENTS)

    def one(number: int) -> None:
        start.wait(60)
        work(number)

    with ThreadPoolExecutor(CLIENTS) as pool:
        for done in [pool.submit(one, number) for number in range(CLIENTS)]:
            done.result(120)


def test_forked_workers_share_no_socket_and_mix_up_no_clients(gunicorn: Serve, own_server: Callable[..., Any]) -> None:
    store = own_server()
    server = gunicorn(EXAMPLE, SESSIONSWEEP_REDIS_URL=store.url)
    with contextlib.closing(redis.Redis.from_url(store.url)) as looker:
        assert len(looker.client_list()) == 1, "a loaded app that nobody asked has connected"
    url = address(server)
    owners: dict[str, int] = {}

    def client(number: int) -> None:
        with httpx.Client(base_url=url, timeout=60) as web:
            mine = f"client {number} ".encode() * 50
            for _ in range(3):
                made = web.post("/files", files={"file": ("a.wav", mine)}, headers={"Connection": "close"})
                assert made.status_code == 201, made.text
                body = made.json()
                assert owners.setdefault(body["session_id"], number) == number, "two clients in one session"
                listed = web.get("/files", headers={"Connection": "close"}).json()
                assert listed["session_id"] == body["session_id"]
                assert body["resource_id"] in [file["resource_id"] for file in listed["files"]]
                assert web.get(f"/files/{body['resource_id']}").content == mine
            assert web.get("/session").json()["files"] == 3

    in_parallel(client)
    assert len(owners) == CLIENTS
    held = [sockets_to(pid, store.port) for pid in worker_pids(server)]
    assert sum(map(bool, held)) >= 2, "only one worker served; the test shows nothing"
    assert sum(map(len, held)) == len(set().union(*held)), "two workers hold one socket"
    assert sockets_to(server.pid, store.port) == set(), "the parent, which serves nobody, has connected"


def test_a_connection_from_before_the_fork_is_used_by_no_worker(
    gunicorn: Serve, own_server: Callable[..., Any]
) -> None:
    store = own_server()
    server = gunicorn("preloaded:app", SESSIONSWEEP_REDIS_URL=store.url)
    url = address(server)
    inherited = sockets_to(server.pid, store.port)
    assert inherited, "the app did not connect before the fork; the test shows nothing"
    looker = redis.Redis.from_url(store.url)
    me = str(looker.client_id())
    (parents,) = (client for client in looker.client_list() if client["id"] != me)

    def of_parent() -> dict[str, int]:
        (now,) = (client for client in looker.client_list() if client["id"] == parents["id"])
        return {name: int(now[name]) for name in ("age", "idle")}

    # So that a use by a worker shows: the server tells in whole seconds when it last heard of a connection.
    wait_until(lambda: of_parent()["idle"] >= 3, 10, "the parent's connection has been silent for a while")
    silent_since = of_parent()["age"] - of_parent()["idle"]

    def client(number: int) -> None:
        with httpx.Client(base_url=url, timeout=60) as web:
            seen = [web.post("/count", headers={"Connection": "close"}).json() for _ in range(4)]
        assert [one["count"] for one in seen] == [1, 2, 3, 4]
        assert len({one["id"] for one in seen}) == 1

    in_parallel(client)
    assert sockets_to(server.pid, store.port) == inherited, "a worker has shut its parent's connection down"
    last = of_parent()
    assert last["age"] - last["idle"] <= silent_since + 1, "a worker has spoken on its parent's connection"
    looker.close()
    for pid in worker_pids(server):
        own = sockets_to(pid, store.port)
        assert not own or not own & inherited, "a worker that has connected still holds its parent's socket"


def test_the_in_memory_store_is_refused_to_a_second_process_with_the_fix(gunicorn: Serve) -> None:
    server = gunicorn(EXAMPLE, workers=2, SESSIONSWEEP_REDIS_URL="memory://")
    url = address(server)
    seen: set[int] = set()

    def both() -> bool:
        seen.add(httpx.post(f"{url}/files", files={"file": ("a.wav", b"x")}, timeout=30).status_code)
        return len(seen) == 2

    wait_until(both, 30, "both workers have answered")
    assert seen == {201, 503}
    refusal = next(line for line in server.logs().splitlines() if "memory://" in line)
    assert "SESSIONSWEEP_REDIS_URL" in refusal, refusal


def test_the_in_process_sweeper_works_after_a_fork(gunicorn: Serve, tmp_path: Path) -> None:
    server = gunicorn(
        EXAMPLE,
        workers=1,
        SESSIONSWEEP_REDIS_URL="memory://",
        SESSIONSWEEP_IDLE_TIMEOUT="0.3",
        SESSIONSWEEP_GRACE_PERIOD="0",
        SESSIONSWEEP_CLEANUP_INTERVAL="0.2",
    )
    made = httpx.post(f"{address(server)}/files", files={"file": ("a.wav", b"x")}, timeout=30)
    rid = made.json()["resource_id"]
    wait_until(lambda: not list((tmp_path / "volume").rglob(f"*{rid}*")), 20, "the sweeper deleted the file")


@pytest.mark.parametrize("store", ["redis", "memory"])
def test_flasks_reloader(
    tmp_path: Path, environment: dict[str, str], redis_url: str, namespace: str, store: str
) -> None:
    watched = tmp_path / "watched"
    watched.touch()
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/healthz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    argv = ["python", "-m", "flask", "--app", EXAMPLE, "run", "--debug", "--extra-files", str(watched)]
    env = {
        **environment,
        "SESSIONSWEEP_REDIS_URL": redis_url if store == "redis" else "memory://",
        "SESSIONSWEEP_NAMESPACE": namespace,
    }
    with (
        LocalProcess("flask", [*argv, "--port", str(port)], tmp_path, env=env, ready_when=answers) as server,
        httpx.Client(base_url=url, timeout=30) as web,
    ):
        first = web.post("/speak", json={"text": "one"})
        assert first.status_code == 201, first.text
        loaded = len(server.logs())
        wait_until(lambda: watched.touch() or "Detected change" in server.logs()[loaded:], 20, "the reloader noticed")  # type: ignore[func-returns-value]
        server.wait_for_log("Debugger is active", 30, after=loaded)
        wait_until(answers, 20)
        second = web.post("/speak", json={"text": "two"})
        assert second.status_code == 201, second.text
        same = second.json()["session_id"] == first.json()["session_id"]
        assert same is (store == "redis"), "memory forgets with its process, and its volume's lock is free again"


def test_a_store_that_dies_under_load(gunicorn: Serve, own_server: Callable[..., Any]) -> None:
    """A typed answer, no hanging, no logged-out client; and it is served again by itself."""
    store = own_server()
    server = gunicorn(EXAMPLE, 2, SESSIONSWEEP_REDIS_URL=store.url, SESSIONSWEEP_SOCKET_TIMEOUT="1")
    url = address(server)
    statuses: list[int] = []
    stop = threading.Event()

    def client(web: httpx.Client) -> None:
        while not stop.is_set():
            answer = web.get("/files")
            assert answer.status_code in (200, 503), answer.text
            if answer.status_code == 503:
                assert answer.headers["Retry-After"]
                assert str(store.port) not in answer.text
            assert "Set-Cookie" not in answer.headers
            statuses.append(answer.status_code)

    def since(count: int, status: int) -> Callable[[], bool]:
        return lambda: status in statuses[count:]

    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(httpx.Client(base_url=url, timeout=30)) for _ in range(8)]
        for web in clients:
            assert web.post("/files", files={"file": ("a.wav", b"mine")}).status_code == 201
        pool = stack.enter_context(ThreadPoolExecutor(len(clients)))
        tasks = [pool.submit(client, web) for web in clients]
        try:
            wait_until(lambda: len(statuses) > 20, 60, "they are served")
            store.kill()
            wait_until(since(len(statuses), 503), 60, "they are told")
            assert httpx.get(f"{url}/healthz", timeout=30).status_code == 200, "what needs no session is served"
            store.start()
            wait_until(since(len(statuses), 200), 60, "they are served again")
        finally:
            stop.set()
        for task in tasks:
            task.result(60)
        assert all(web.get("/files").json() for web in clients), "nobody was logged out"
