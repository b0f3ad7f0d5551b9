"""The photo drop behind a real server: whose the photos are, how they go, what is refused."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sessionsweep_workers.devstack.ports import free_port
from support.processes import LocalProcess, wait_until

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def base(tmp_path: Path) -> Iterator[str]:
    """Its address: one process, memory, swept by itself."""
    at = f"127.0.0.1:{free_port()}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SESSIONSWEEP_", "DJANGO_"))}
    env = {
        **kept,
        "DJANGO_SETTINGS_MODULE": "django_photos.settings",
        "SESSIONSWEEP_REDIS_URL": "memory://",
        "SESSIONSWEEP_VOLUMES": f"photos={tmp_path / 'photos'}",
        "SESSIONSWEEP_CLEANUP_INTERVAL": "100ms",
        "PYTHONPATH": str(EXAMPLES),
    }

    def up() -> bool:
        try:
            return httpx.get(f"http://{at}/healthz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    argv = ["python", "-m", "waitress", "--listen", at, "django_photos.urls:application"]
    with LocalProcess("photos", argv, tmp_path, env=env, ready_when=up, ready_timeout=60):
        yield f"http://{at}"


def token(page: httpx.Response) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert found is not None
    return found[1]


def test_photos_come_and_go_with_the_visit(base: str, tmp_path: Path) -> None:
    with httpx.Client(base_url=base, follow_redirects=True, timeout=30) as me, httpx.Client(base_url=base) as other:
        page = me.get("/")
        assert "sessionid" not in me.cookies, "looking makes no session"
        assert me.post("/photos", files={"photo": ("x.png", PNG)}).status_code == 403, "CSRF"
        sent = {"csrfmiddlewaretoken": token(page)}
        page = me.post("/photos", data=sent, files=[("photo", ("<b>.png", PNG)), ("photo", ("two.png", PNG))])
        assert page.status_code == 200
        assert "&lt;b&gt;.png" in page.text
        one, two = re.findall(r'<img src="(/photos/[^"]+)"', page.text)
        shown = me.get(one)
        assert (shown.content, shown.headers["content-type"]) == (PNG, "image/png")
        assert shown.headers["x-content-type-options"] == "nosniff"
        assert other.get(one).status_code == 404
        refused = me.post("/photos", data=sent, files={"photo": ("page.png", b"<script>")})
        assert (refused.status_code, "is no JPEG" in refused.text) == (415, True)
        assert two in me.post(f"{one}/delete", data=sent).text
        assert me.get(one).status_code == 404
        assert 800 < me.get("/sessionsweep/time-left").json()["seconds"] <= 900
        files = tmp_path / "photos"
        assert list(files.rglob("*.png"))
        assert "No photos yet" in me.post("/leave", data=sent).text
        wait_until(lambda: not list(files.rglob("*.png")), 20, "the photos' deletion")
