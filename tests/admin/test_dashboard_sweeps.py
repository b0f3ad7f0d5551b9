"""A sweep from the dashboard, in a real browser, run by a real worker: sent, followed, and told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from admin_client import WRITE, Admin
from playwright.sync_api import expect

from support.browser import chromium, needs_chromium
from support.nodes import KEY
from support.processes import LocalProcess, local_processes

pytestmark = needs_chromium
WORKER = "python -m celery -A sessionsweep_workers worker -P threads -c 2 -l INFO --without-mingle --without-gossip"


@pytest.fixture
def admin(make_admin: Callable[..., Admin]) -> Admin:
    return make_admin(sweeper="workers", idle_timeout=900)


@pytest.fixture
def worker(admin: Admin, redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Starts a worker on the admin side's node."""
    volumes = ",".join(f"{volume.name}={volume.path}" for volume in admin.node.settings.volumes)
    environ = {
        "SESSIONSWEEP_REDIS_URL": redis_url,
        "SESSIONSWEEP_NAMESPACE": namespace,
        "SESSIONSWEEP_SECRET_KEY": KEY,
        "SESSIONSWEEP_NODE": "a",
        "SESSIONSWEEP_VOLUMES": volumes,
    }
    process = LocalProcess("worker", [*WORKER.split(), "-n", "dash@%h"], tmp_path, env=environ, ready_when=" ready.")
    started = local_processes(process)
    yield lambda: started.__enter__() and None
    started.__exit__(None, None, None)


@pytest.mark.smoke
def test_a_sweep_is_sent_followed_and_told(admin: Admin, worker: Callable[[], None]) -> None:
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{admin.http.base_url}/admin/ui/sweeps")
        page.get_by_label("Admin token").fill(WRITE)
        page.keyboard.press("Enter")
        expect(page.get_by_text("No task has run yet.")).to_be_visible()
        expect(
            page.get_by_text(re.compile(r"^Next run: idle in \S+, expired in \S+, orphans in \S+\.$"))
        ).to_be_visible()
        page.get_by_role("button", name="Sweep idle now").click()
        asked = page.get_by_role("region", name="The sweep asked for")
        expect(asked).to_contain_text("waits for a worker")
        expect(asked.get_by_role("progressbar", name="Progress")).to_be_visible()
        worker()
        expect(asked).to_contain_text("done", timeout=60_000)
        expect(asked.get_by_role("progressbar")).to_have_count(0)
        expect(page.get_by_role("row", name="sweep idle done a")).to_be_visible()
        page.get_by_role("button", name="Sweep orphans now").click()
        expect(page.get_by_role("row", name="sweep orphans done a")).to_be_visible(timeout=60_000)
