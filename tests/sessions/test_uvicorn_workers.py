"""AsyncSessions under uvicorn with two worker processes: no shared connection to Redis, no mixed-up reply."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from sessionsweep_workers.devstack.ports import free_port
from support.processes import LocalProcess, descendants
from support.sockets import connections

CLIENTS, ROUNDS = 10, 4


async def test_two_workers_serve_the_same_sessions_and_mix_nothing_up(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    argv = ["python", "-m", "uvicorn", "support.asgi_app:app", "--workers", "2", "--host", "127.0.0.1"]
    env = {
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "SESSIONSWEEP_REDIS_URL": redis_url,
        "SESSIONSWEEP_NAMESPACE": namespace,
        "SESSIONSWEEP_SECRET_KEY": "u" * 40,
        "SESSIONSWEEP_VOLUMES": f"one={tmp_path / 'one'}",
        "SESSIONSWEEP_NODE": "uvicorn",
    }

    def up() -> bool:
        try:
            return httpx.get(f"{base}/docs", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    async def visit(number: int) -> set[int]:
        pids = set()
        # a connection each time, so that the kernel spreads the requests over both workers
        cookies: dict[str, str] = {}
        for turn in range(ROUNDS):
            async with httpx.AsyncClient(base_url=base, cookies=cookies, timeout=30) as client:
                answer = await client.put("/note", content=f"{number}/{turn}")
                assert answer.status_code == 200, answer.text
                cookies |= dict(answer.cookies)
                assert answer.json()["first"] == f"{number}/0"
                pids.add(answer.json()["pid"])
                listed = (await client.get("/notes")).json()
                assert sorted(listed["contents"]) == sorted(f"{number}/{done}" for done in range(turn + 1))
                pids.add(listed["pid"])
        return pids

    uvicorn = LocalProcess("uvicorn", [*argv, "--port", str(port)], tmp_path, env=env, ready_when=up, ready_timeout=60)
    with uvicorn:
        workers = set.union(*await asyncio.gather(*(visit(number) for number in range(CLIENTS))))
        async with asyncio.timeout(60):  # the second worker may start later than the first
            while len(workers) < 2:
                workers |= await visit(CLIENTS)
        held = {pid: connections(pid, redis_port(redis_url)) for pid in {uvicorn.pid, *descendants(uvicorn.pid)}}
    assert {pid for pid, inodes in held.items() if inodes} == workers, "each holds a connection, and nobody else does"
    for one, other in itertools.combinations(held.values(), 2):
        assert not one & other, "each its own"


def test_a_connection_that_two_processes_share_would_be_seen(redis_url: str) -> None:
    port = redis_port(redis_url)
    with socket.create_connection(("127.0.0.1", port)) as shared, socket.create_connection(("127.0.0.1", port)):
        argv = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=[shared.fileno()]) as child:
            ours, theirs = connections(os.getpid(), port), connections(child.pid, port)
            assert child.stdin is not None
            child.stdin.close()
    assert len(ours) >= 2
    assert len(ours & theirs) == 1


def redis_port(url: str) -> int:
    """Where the server listens."""
    port = urlsplit(url).port
    assert port is not None
    return port
