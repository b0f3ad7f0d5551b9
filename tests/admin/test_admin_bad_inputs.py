"""Bad input beyond odd values (test_admin_api.py has those): twice, forged, cross-site, by the wrong method, huge."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from admin_client import READ, WRITE, Admin

from sessionsweep.model.ids import new_session_id

ELSEWHERE = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Referer": "https://evil.example/"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
TEXT = {"Content-Type": "text/plain"}  # what a page of another site may send without asking
JSON = {"Content-Type": "application/json"}
OURS = {"X-Admin-Token": WRITE}
GONE = new_session_id("00")
SCRIPT = "%3Cscript%3Ealert(1)%3C%2Fscript%3E"

Case = tuple[str, str, dict[str, str], Any, int]
CASES: dict[str, list[Case]] = {
    "from another site, without a token": [
        ("POST", "/sessions/{sid}/cleanup", ELSEWHERE, None, 401),
        ("POST", "/users/cleanup", {**ELSEWHERE, **FORM}, b"user_id=ana", 401),
        ("POST", "/users/cleanup", {**ELSEWHERE, **TEXT}, b'{"user_id": "ana"}', 401),
        ("POST", "/holds/lift", {**ELSEWHERE, **JSON}, b'{"scope": "all"}', 401),
        ("POST", "/sweeps/idle", ELSEWHERE, None, 401),
        ("OPTIONS", "/users/cleanup", {**ELSEWHERE, "Access-Control-Request-Method": "POST"}, None, 405),
    ],
    "with the token, as no program of ours writes it": [
        ("POST", "/users/cleanup", {**OURS, **FORM}, b"user_id=ana", 422),
        ("POST", "/users/cleanup", {**OURS, **TEXT}, b'{"user_id": "ana"}', 422),
        ("POST", "/users/cleanup", {**OURS, "Content-Type": "multipart/form-data"}, b"--x", 422),
        ("POST", "/users/cleanup", {**OURS, "Content-Type": "application/xml"}, b"<user_id>ana</user_id>", 422),
    ],
    "a token that is none": [
        ("GET", "/sessions", {"X-Admin-Token": ""}, None, 401),
        ("GET", "/sessions", {"X-Admin-Token": "*"}, None, 401),
        ("GET", "/sessions", {"X-Admin-Token": f"{WRITE} "[:-2]}, None, 401),
        ("GET", "/sessions", {"Authorization": f"Basic {WRITE}"}, None, 401),
        ("GET", "/sessions", {"Authorization": "Bearer"}, None, 401),
        ("GET", f"/sessions?token={WRITE}", {}, None, 401),
        ("GET", "/sessions", {"Cookie": f"X-Admin-Token={WRITE}"}, None, 401),
        ("POST", "/sessions/{sid}/cleanup", {"X-Admin-Token": READ}, None, 403),
    ],
    "by GET what changes something": [
        ("GET", path, OURS, None, 405)
        for path in ("/sessions/{sid}/cleanup", "/users/cleanup", "/holds/lift", "/owed/retry")
    ],
    "by another method": [
        (method, path, OURS, None, 405)
        for method in ("DELETE", "PUT", "PATCH")
        for path in ("/sessions/{sid}", "/sessions", "/users/cleanup", "/holds")
    ],
    "a method by another name": [
        ("GET", "/users/cleanup?_method=POST", {**OURS, "X-HTTP-Method-Override": "POST"}, None, 405),
        ("POST", "/sessions/{sid}?_method=DELETE", {**OURS, "X-HTTP-Method-Override": "DELETE"}, None, 405),
    ],
    "said twice": [
        ("GET", "/sessions?limit=1&limit=0", OURS, None, 422),
        ("GET", "/sessions?limit=1&limit[]=2&limit=x", OURS, None, 422),
        ("POST", "/users/cleanup", {**OURS, **JSON}, b'{"user_id": "ana", "user_id": ""}', 422),
        ("POST", "/users/cleanup", {**OURS, **JSON}, b'{"user_id": "ana"}{"user_id": "ana"}', 422),
    ],
    "globs and scripts": [
        ("POST", "/sessions/%2A/cleanup", OURS, None, 404),
        ("POST", "/sessions/[a-z]*/cleanup", OURS, None, 404),
        ("GET", "/sessions/{sid}%2A", OURS, None, 404),
        ("POST", f"/sessions/{SCRIPT}/cleanup", OURS, None, 404),
        ("GET", f"/sessions?cursor={SCRIPT}", OURS, None, 422),
        ("GET", "/sessions?cursor=0.0.0.{sid}%00", OURS, None, 422),
        ("GET", "/sessions?cursor=00.0.0.{sid}.{sid}", OURS, None, 422),
        ("POST", "/holds/lift", {**OURS, **JSON}, b'{"scope": "<script>alert(1)</script>"}', 404),
        ("POST", "/dead-letters/%2A/drop", OURS, None, 404),
    ],
    "much": [
        ("GET", "/sessions?user=" + "u" * 60_000, OURS, None, 422),
        ("GET", "/sessions?" + "&".join(f"x{n}=1" for n in range(5000)), OURS, None, 200),
        ("POST", "/users/cleanup", {**OURS, **JSON}, b'{"user_id": "' + b"u" * 5_000_000, 413),
        ("POST", "/holds/lift", {**OURS, **JSON}, b'{"scope": ' + b"9" * 60_000 + b"}", 400),
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", CASES)
def test_it_is_refused_and_changes_nothing(admin: Admin, kind: str) -> None:
    session, _ = admin.node.sessions.create(user="ana")
    for method, path, headers, body, status in CASES[kind]:
        answer = admin.http.request(method, "/admin" + path.replace("{sid}", session.id), headers=headers, content=body)
        what = f"{method} {path[:80]} {body and body[:60]!r}: {answer.status_code} {answer.text[:200]}"
        assert answer.status_code == status, what
        assert "Access-Control-Allow-Origin" not in answer.headers, what
        assert "Traceback" not in answer.text, what
        assert "<script" not in answer.text or answer.headers["Content-Type"] == "application/problem+json", what
        assert admin.node.sessions.get(session.id) is not None, what


def test_an_order_that_comes_again_is_done_once(admin: Admin) -> None:
    for user in ("ana", "<script>alert(1)</script>"):
        session, _, _ = admin.node.session_with_file(user=user)
        first = admin.post(f"/sessions/{session.id}/cleanup")
        assert admin.post(f"/sessions/{session.id}/cleanup")["session_id"] == first["session_id"]
        assert admin.post("/users/cleanup", {"user_id": user}) == admin.post("/users/cleanup", {"user_id": user})
    shown = admin.get("/stats")
    assert (shown["total_sessions_cleaned"], shown["imbalance"]) == (2, 0)


def test_a_visit_of_the_dashboard_is_no_token(admin: Admin) -> None:
    """Its cookie goes with every request of a browser, and a page of another site can make one send them."""
    session, _ = admin.node.sessions.create()
    with httpx.Client(base_url=str(admin.http.base_url), timeout=30) as http:
        came = http.post("/admin/ui/login", data={"token": WRITE}, headers={"Sec-Fetch-Site": "same-origin"})
        assert came.status_code == 303
        assert http.cookies
        (cookie,) = [f"{one.name}={one.value}" for one in http.cookies.jar]
        for path in (f"/sessions/{session.id}/cleanup", "/users/cleanup", "/sweeps/idle"):
            assert http.post(f"/admin{path}", headers={"Cookie": cookie, **ELSEWHERE}).status_code == 401
    assert admin.node.sessions.get(session.id) is not None
