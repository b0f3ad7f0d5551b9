"""The whole system as `sessionsweep up` runs it: two web nodes, two workers, beat, Flower, real files, real kills."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from sessionsweep import Sessions, Settings
from sessionsweep.store import operations as op
from support.files import files_below
from support.processes import LocalProcess, wait_until

pytestmark = [pytest.mark.smoke, pytest.mark.timeout(240)]


class Stack:
    """A running `up`: its addresses and pids, read anew each time, for restarted processes change theirs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def status(self) -> dict[str, Any]:
        """up.json."""
        return json.loads((self.folder / "up.json").read_text())  # type: ignore[no-any-return]

    def web(self, index: int) -> str:
        """A web node's address."""
        return str(self.status["web"][index]["url"])

    def files(self, session_id: str) -> list[Path]:
        """What lies on any volume for a session."""
        roots = {Path(path) for path in self.status["volumes"].values()}
        return [path for root in roots for path in files_below(root / "files") if path.parent.name == session_id]

    def flower(self) -> httpx.Client:
        """Flower's HTTP API, with its credentials."""
        return httpx.Client(base_url=self.status["flower_url"], timeout=20)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`sessionsweep up` with short timeouts."""
    folder = tmp_path_factory.mktemp("up")
    env: dict[str, str | None] = {name: None for name in os.environ if name.startswith("SESSIONSWEEP_")}
    env |= {
        "SESSIONSWEEP_IDLE_TIMEOUT": "4",
        "SESSIONSWEEP_GRACE_PERIOD": "1",
        "SESSIONSWEEP_CLEANUP_INTERVAL": "1",
    }
    argv = [str(Path(sys.executable).with_name("sessionsweep")), "up", "--data-dir", str(folder)]
    ready = (folder / "up.json").exists
    logs = tmp_path_factory.mktemp("logs")
    with LocalProcess("up", argv, logs, env=env, ready_when=ready, ready_timeout=90):
        yield Stack(folder)


def upload(client: httpx.Client, url: str, content: bytes = b"RIFF" * 50) -> dict[str, Any]:
    """Uploads one recording: the answer of the node."""
    answer = client.post(f"{url}/files", files={"file": ("note.wav", content, "audio/wav")})
    assert answer.status_code == 201, answer.text
    return answer.json()  # type: ignore[no-any-return]


def test_idle_sessions_files_go_from_both_volumes_and_a_busy_ones_stay(stack: Stack) -> None:
    with httpx.Client() as visitor, httpx.Client() as busy:
        made = upload(visitor, stack.web(0))
        spoken = visitor.post(f"{stack.web(1)}/speak", json={"text": "good morning"})
        assert spoken.status_code == 201
        assert spoken.json()["session_id"] == made["session_id"], "one session on both nodes"
        kept = upload(busy, stack.web(1))["session_id"]
        assert {p.parts[-4] for p in stack.files(made["session_id"])} == {"files"}
        assert len(stack.files(made["session_id"])) == 2

        def gone() -> bool:
            assert busy.get(f"{stack.web(0)}/files").status_code == 200
            return not stack.files(made["session_id"])

        wait_until(gone, timeout=30, what="both files are deleted")
        assert len(stack.files(kept)) == 1, "a session in use keeps its files"
        assert visitor.get(f"{stack.web(1)}/files").json()["files"] == []


def test_a_log_out_removes_the_files_at_once(stack: Stack) -> None:
    with httpx.Client() as visitor:
        session_id = upload(visitor, stack.web(0))["session_id"]
        visitor.post(f"{stack.web(1)}/speak", json={"text": "bye"})
        assert visitor.post(f"{stack.web(1)}/logout").status_code in (200, 204)
        wait_until(lambda: not stack.files(session_id), timeout=10, what="log-out reclaims at once")


def test_files_are_served_to_their_owner_from_any_node(stack: Stack) -> None:
    with httpx.Client(follow_redirects=True) as owner:
        made = upload(owner, stack.web(0), b"RIFF-content")
        there = owner.get(f"{stack.web(1)}/files/{made['resource_id']}")
        assert there.status_code == 200
        assert there.content == b"RIFF-content"
    assert httpx.get(f"{stack.web(0)}/files/{made['resource_id']}").status_code == 404


def test_flower_shows_readable_tasks_and_runs_one_on_demand(stack: Stack) -> None:
    with stack.flower() as flower:
        begun = flower.post("/api/task/async-apply/sessionsweep.sweep_idle", json={"args": [], "kwargs": {}})
        assert begun.status_code == 200, begun.text
        task = begun.json()["task-id"]

        def finished() -> bool:
            info = flower.get(f"/api/task/info/{task}")
            return info.status_code == 200 and info.json()["state"] == "SUCCESS"

        wait_until(finished, timeout=30, what="Flower reports the task's success")
        about = flower.get(f"/api/task/info/{task}").json()
        assert about["name"] == "sessionsweep.sweep_idle"
        assert "seconds" in about["result"]
        expected = {"worker-a", "worker-b"}  # Flower asks them itself, when it has begun
        wait_until(lambda: {name.split("@")[0] for name in flower.get("/api/workers").json()} == expected, 30, "both")
        assert flower.get("/tasks").status_code == 200
    stranger = "http://" + stack.status["flower_url"].split("@")[1]
    assert httpx.get(f"{stranger}/api/workers").status_code == 401


def test_a_stopped_nodes_files_stay_owed_and_go_when_it_is_back(stack: Stack) -> None:
    worker = stack.status["workers"][0]
    store = Sessions(Settings(redis_url=stack.status["redis_url"], secret_key="x" * 40, node="observer"))
    with httpx.Client() as visitor:
        session_id = upload(visitor, stack.web(0))["session_id"]
        os.kill(worker["pid"], signal.SIGSTOP)
        try:
            visitor.post(f"{stack.web(1)}/logout")
            assert owed_entries(store) == 1, "owed and listed"
            wait_for_sweeps(store, 3)
            assert stack.files(session_id), "nobody else touches that path"
            assert owed_entries(store) >= 1
        finally:
            os.kill(worker["pid"], signal.SIGCONT)
        wait_until(lambda: not stack.files(session_id), timeout=60, what="the node is back")
    assert store.stats().imbalance == 0
    store.close()


def owed_entries(sessions: Sessions) -> int:
    """How many sessions owe something somewhere."""
    return sum(queue.entries for queue in sessions.store.execute(op.Queues("00")))


def wait_for_sweeps(sessions: Sessions, count: int) -> None:
    """Until that many more sweeps have run: a signal, where a sleep would only hope."""
    seen = {sessions.store.execute(op.Meta()).get("last_sweep")}

    def enough() -> bool:
        seen.add(sessions.store.execute(op.Meta()).get("last_sweep"))
        return len(seen) > count

    wait_until(enough, timeout=60, what="sweeps go on")


def test_killed_processes_come_back_and_nothing_is_lost(stack: Stack) -> None:
    with httpx.Client() as visitor:
        session_id = upload(visitor, stack.web(0))["session_id"]
        for group in ("web", "workers"):
            pid = stack.status[group][0]["pid"]
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda g=group, p=pid: stack.status[g][0]["pid"] != p, timeout=60, what=f"{group} restarts")
        beat = stack.status["beat"]["pid"]
        os.kill(beat, signal.SIGKILL)
        wait_until(lambda: not stack.files(session_id), timeout=60, what="cleaned all the same")
    client = redis.Redis.from_url(stack.status["redis_url"])
    assert client.ping()
    client.close()
