"""The scheduled cleanup as a real process with APScheduler's own clock: what it ends, deletes, tells and shows."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from apscheduler.schedulers.background import BackgroundScheduler
from playwright.sync_api import Page, expect

from apscheduler_job.cleanup import JOB_ID, ORPHANS_JOB_ID, Cleanup
from sessionsweep import AsyncSessions, Settings
from sessionsweep_workers.devstack.server import EmbeddedServer
from sessionsweep_workers.devstack.web import example_parent
from support.browser import needs_chromium
from support.files import files_below
from support.looks import check_looks, check_names
from support.nodes import KEY
from support.processes import LocalProcess, wait_until

RUNNING = re.compile(r"running on (http://\S+)")
Serve = Callable[..., LocalProcess]


@pytest.fixture
def serve(tmp_path: Path, redis_url: str, namespace: str) -> Iterator[Serve]:
    """Starts the app; further arguments are settings."""
    started: list[LocalProcess] = []

    def one(**settings: str) -> LocalProcess:
        values = {
            "redis_url": redis_url,
            "namespace": namespace,
            "secret_key": KEY,
            "node": "a",
            "volumes": f"notes={tmp_path / 'notes'}",
            "cleanup_interval": "0.3",
            "grace_period": "0",
            "hold": "0.1",
            **settings,
        }
        process = LocalProcess(
            "web",
            ["python", "-m", "uvicorn", "apscheduler_job.app:app", "--host", "127.0.0.1", "--port", "0"],
            tmp_path,
            cwd=example_parent(),
            env={
                **{name: None for name in os.environ if name.startswith("SESSIONSWEEP_")},
                **{f"SESSIONSWEEP_{name.upper()}": value for name, value in values.items()},
            },
            ready_when=RUNNING,
            ready_timeout=60,
        )
        started.append(process)
        return process.start()

    yield one
    for process in started:
        process.stop()


def url(process: LocalProcess) -> str:
    return process.wait_for_log(RUNNING)[1]


def events(process: LocalProcess, name: str) -> list[dict[str, Any]]:
    """The events of that name in its log, oldest first."""
    lines = [line for line in process.logs().splitlines() if line.startswith("{")]
    return [event for event in map(json.loads, lines) if event["event"] == name]


def test_silence_ends_a_session_and_the_job_deletes_its_notes(serve: Serve, tmp_path: Path) -> None:
    web = serve(idle_timeout="1.5")
    began = datetime.now(UTC)
    with httpx.Client(base_url=url(web), timeout=30) as me:
        assert me.post("/notes", data={"text": ""}).status_code == 422
        assert not me.cookies
        assert me.post("/notes", data={"text": "hello"}).status_code == 201
        assert me.get("/mine").json()["notes"] == 1
        assert files_below(tmp_path / "notes", ".txt")
        wait_until(lambda: any(run["files_deleted"] for run in events(web, "session_cleanup_ran")), 20, "its deletion")
        assert not files_below(tmp_path / "notes", ".txt")
        assert me.get("/mine").json() == {"notes": 0, "seconds": None}
        assert len(me.get("/runs").json()["runs"]) > 0
    runs = events(web, "session_cleanup_ran")
    assert sum(run["deleted_count"] for run in runs) == 1
    assert sum(run["bytes_deleted"] for run in runs) == len("hello")
    cutoffs = [datetime.fromisoformat(run["cutoff_time"]) for run in runs]
    assert began <= cutoffs[0], "a time that every reader understands, with its zone"
    assert cutoffs == sorted(cutoffs)
    (scheduled,) = events(web, "session_cleanup_scheduled")
    assert scheduled["interval_seconds"] == 0.3
    web.stop()
    assert "Application shutdown complete" in web.logs(), "it stops in order"
    assert "Traceback" not in web.logs(), web.tail()


def test_a_busy_session_is_left_alone_and_a_log_out_is_deleted_by_the_next_run(serve: Serve, tmp_path: Path) -> None:
    web = serve(cleanup_interval="3600")
    with httpx.Client(base_url=url(web), timeout=30) as me, httpx.Client(base_url=url(web), timeout=30) as other:
        for one in (me, other):
            one.post("/notes", data={"text": "hello"})
        other.post("/leave")
        assert me.post("/runs").status_code == 202, "an hour before its time"
        wait_until(lambda: events(web, "session_cleanup_ran"), 20, "the run")
        (ran,) = events(web, "session_cleanup_ran")
        assert (ran["deleted_count"], ran["files_deleted"]) == (0, 1), "the log-out had ended it already"
        assert me.get("/mine").json()["notes"] == 1


def test_a_server_that_is_away_is_told_and_the_next_run_does_it_all(
    serve: Serve, own_server: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    server = own_server(data_dir=tmp_path / "redis")
    web = serve(redis_url=server.url, idle_timeout="2")
    with httpx.Client(base_url=url(web), timeout=30) as me:
        me.post("/notes", data={"text": "hello"})
        server.kill()
        wait_until(lambda: events(web, "session_cleanup_failed"), 30, "the failed run")
        assert me.get("/mine").status_code == 503
        assert "error" in me.get("/runs").json()["runs"][0]
        server.start()
        ended = lambda: sum(run["deleted_count"] for run in events(web, "session_cleanup_ran"))  # noqa: E731
        wait_until(ended, 60, "the run that did it")
        wait_until(lambda: not files_below(tmp_path / "notes", ".txt"), 20, "the deletion")
        assert ended() == 1
    assert "Traceback" not in web.logs(), web.tail()


async def test_registering_again_replaces_the_jobs(redis_url: str, namespace: str) -> None:
    sessions = AsyncSessions(Settings(redis_url=redis_url, namespace=namespace, secret_key=KEY))
    scheduler = BackgroundScheduler(timezone=UTC)
    scheduler.start(paused=True)
    for _ in range(2):
        Cleanup(sessions).register(scheduler)
    assert sorted(job.id for job in scheduler.get_jobs()) == sorted((JOB_ID, ORPHANS_JOB_ID))
    scheduler.shutdown()
    await sessions.close()


@needs_chromium
def test_its_page_shows_the_last_runs(page: Page, serve: Serve) -> None:
    web = serve(idle_timeout="4", cleanup_interval="2")
    page.goto(url(web))
    check_looks(page)
    page.get_by_role("textbox", name="A note").fill("hello")
    page.get_by_role("button", name="Keep").click()
    expect(page.get_by_text("1 note; your session lasts until")).to_be_visible()
    page.get_by_role("button", name="Run it now").click()
    expect(page.get_by_text("It has been told to run.")).to_be_visible()
    ran = page.get_by_role("row", name="1 1")  # ended, deleted: the page's own looking must not end it before
    expect(ran).to_have_count(1, timeout=30_000)
    expect(page.get_by_text("None yet.")).to_be_visible()
    check_looks(page)
    check_names(page)
