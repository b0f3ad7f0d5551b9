"""The photo drop behind a real server: whose the photos are, how they go, what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from support.files import files_below
from support.processes import wait_until

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def token(page: httpx.Response) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert found is not None
    return found[1]


def test_photos_come_and_go_with_the_visit(photo_drop: str, tmp_path: Path) -> None:
    with (
        httpx.Client(base_url=photo_drop, follow_redirects=True, timeout=30) as me,
        httpx.Client(base_url=photo_drop) as other,
    ):
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
        assert files_below(files, ".png")
        assert "No photos yet" in me.post("/leave", data=sent).text
        wait_until(lambda: not files_below(files, ".png"), 20, "the photos' deletion")
