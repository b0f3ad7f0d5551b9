"""AsyncSessions under uvicorn with two worker processes: no shared socket, no mixed-up reply."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from sessionsweep_workers.devstack.ports import free_port
from support.processes import LocalProcess

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

    with LocalProcess("uvicorn", [*argv, "--port", str(port)], tmp_path, env=env, ready_when=up, ready_timeout=60):
        seen = await asyncio.gather(*(visit(number) for number in range(CLIENTS)))
    assert len(set.union(*seen)) == 2, "both workers took part"
