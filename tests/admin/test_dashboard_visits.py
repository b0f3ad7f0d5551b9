"""The dashboard's door: cookies, forms of other sites, tokens for reading, links elsewhere; and what pages send."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from a2wsgi import ASGIMiddleware
from admin_client import OVER, READ, WRITE, Admin
from hatchling.builders.wheel import WheelBuilder
from starlette.applications import Starlette
from starlette.routing import Mount
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client as WsgiClient

from sessionsweep.admin import create_admin, pages
from sessionsweep.admin.access import WRONG_A_MINUTE, Scope, parse_grants
from sessionsweep.admin.pages.visits import IDLE, LONGEST, Visits
from sessionsweep.store import operations as op
from support.nodes import Node
from support.serving import serving

OURS = {"Sec-Fetch-Site": "same-origin"}
COOKIE = "sessionsweep-admin"


@contextmanager
def visitor(base: Any, token: str = WRITE, prefix: str = "", **headers: str) -> Iterator[httpx.Client]:
    """A browser that is logged in."""
    with httpx.Client(base_url=base, headers={**OURS, **headers}, timeout=30) as http:
        answer = http.post(f"{prefix}/admin/ui/login", data={"token": token})
        assert answer.status_code == 303, answer.text
        yield http


def form_token(http: httpx.Client, path: str = "/admin/") -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', http.get(path).text)
    assert found is not None
    return found[1]


def changes(session_id: str) -> list[tuple[str, dict[str, str]]]:
    """Every form of the pages that changes something."""
    return [
        (f"/admin/ui/sessions/{session_id}/end", {}),
        ("/admin/ui/sessions/end", {"id": session_id}),
        ("/admin/ui/users/end", {"user": "ana"}),
        ("/admin/ui/owed/retry", {}),
        ("/admin/ui/dead-letters/retry", {}),
        ("/admin/ui/dead-letters/x/retry", {}),
        ("/admin/ui/dead-letters/x/drop", {}),
        ("/admin/ui/holds/lift", {"scope": "all"}),
        ("/admin/ui/sweeps/idle", {}),
    ]


# forms of other sites


def test_a_form_without_this_visits_token_changes_nothing(admin: Admin) -> None:
    session, _ = admin.node.sessions.create(user="ana")
    with visitor(admin.http.base_url) as mine, visitor(admin.http.base_url) as other:
        for path, fields in changes(session.id):
            for token in ("", "0" * 64, "ü", form_token(other)):
                answer = mine.post(path, data={**fields, "form_token": token})
                assert answer.status_code == 403, path
                assert "This form doesn&#39;t come from a page of this log-in" in answer.text
    assert admin.get(f"/sessions/{session.id}")["state"] == "live"


FOREIGN: tuple[dict[str, str], ...] = (
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},  # another port of this host: cookies travel, SameSite or not
    {"Sec-Fetch-Site": "none"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {},
)


def test_a_form_from_elsewhere_changes_nothing(admin: Admin) -> None:
    session, _ = admin.node.sessions.create(user="ana")
    with visitor(admin.http.base_url) as http:
        token = form_token(http)
        del http.headers["Sec-Fetch-Site"]
        for headers in FOREIGN:
            for path, fields in changes(session.id):
                answer = http.post(path, data={**fields, "form_token": token}, headers=headers)
                assert answer.status_code == 403, (path, headers)
            for path in ("/admin/ui/login", "/admin/ui/logout"):
                answer = http.post(path, data={"token": WRITE, "form_token": token}, headers=headers)
                assert answer.status_code == 403, (path, headers)
        assert http.get("/admin/").status_code == 200, "another site logged us out"
        assert admin.get(f"/sessions/{session.id}")["state"] == "live"
        own = {"Origin": str(http.base_url).rstrip("/")}  # a browser that tells no more than that
        assert http.post(changes(session.id)[0][0], data={"form_token": token}, headers=own).status_code == 303
    assert admin.http.get(f"/admin/sessions/{session.id}", headers={"X-Admin-Token": READ}).status_code == 404


def test_looking_changes_nothing(admin: Admin) -> None:
    session, _, _ = admin.node.session_with_file(user="ana")
    before = admin.get(f"/sessions/{session.id}")
    with visitor(admin.http.base_url) as http:
        for path, fields in changes(session.id):
            http.get(path, params=fields)
            assert http.request("HEAD", path).status_code in (404, 405)
    after = admin.get(f"/sessions/{session.id}")
    assert (after["state"], after["request_count"]) == ("live", before["request_count"])


# who may what


def test_a_token_for_reading_sees_and_changes_nothing(admin: Admin) -> None:
    session, _ = admin.node.sessions.create(user="ana")
    with visitor(admin.http.base_url, READ) as http:
        token = form_token(http)
        for path, fields in changes(session.id):
            answer = http.post(path, data={**fields, "form_token": token})
            assert answer.status_code == 403, path
            assert "This log-in may only read" in answer.text
        for path in (f"/admin/ui/sessions/{session.id}/end", "/admin/ui/users/end?user=ana", "/admin/ui/sessions/end"):
            assert http.get(path).status_code == 403
    assert admin.get(f"/sessions/{session.id}")["state"] == "live"


def test_without_a_visit_every_page_leads_to_the_log_in(admin: Admin) -> None:
    for path in ("/", "/ui/sessions?user=ana", "/ui/sessions/x", "/ui/holds", "/ui/nothing"):
        answer = admin.http.get(f"/admin{path}")
        assert answer.status_code == 303, path
        assert answer.headers["Location"].startswith("/admin/ui/login?next=%2Fadmin%2F")
    for path, fields in changes("x" * 20):
        answer = admin.http.post(path, data=fields, headers=OURS)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/admin/ui/login"), path


def test_the_cookie_is_for_pages_alone_and_no_token(admin: Admin) -> None:
    with visitor(admin.http.base_url) as http:
        assert http.get("/admin/sessions").status_code == 401, "the API takes no cookie: that travels by itself"
        assert WRITE not in http.cookies[COOKIE]


def test_a_wrong_token_is_refused(admin: Admin) -> None:
    for token in ("", "a-guess", OVER, "ü" * 100, "a" * 5000):
        answer = admin.http.post("/admin/ui/login", data={"token": token}, headers=OURS)
        assert answer.status_code == 401
        assert "That is no valid token." in answer.text
        assert "Set-Cookie" not in answer.headers
        assert not token or token not in answer.text


def test_whoever_guesses_is_slowed_down_here_as_in_the_api(admin: Admin) -> None:
    for _ in range(WRONG_A_MINUTE):
        admin.http.post("/admin/ui/login", data={"token": "guess"}, headers=OURS)
    answer = admin.http.post("/admin/ui/login", data={"token": WRITE}, headers=OURS)
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert admin.http.get("/admin/holds", headers={"X-Admin-Token": WRITE}).status_code == 429


def test_a_log_out_ends_a_copy_of_the_cookie_too(admin: Admin) -> None:
    with visitor(admin.http.base_url) as http:
        copy = http.cookies[COOKIE]
        answer = http.post("/admin/ui/logout", data={"form_token": form_token(http)})
        assert answer.headers["Clear-Site-Data"] == '"storage"'
        assert COOKIE not in http.cookies
        assert http.get("/admin/", headers={"Cookie": f"{COOKIE}={copy}"}).status_code == 303


ELSEWHERE = (
    "https://evil.example/", "//evil.example", "/\\evil.example", "/admin//evil.example", "/admin/\\x", "/elsewhere",
    "javascript:alert(1)", "/admin/\r\nSet-Cookie: a=b", "admin/",
)  # fmt: skip


def test_the_log_in_leads_nowhere_else(admin: Admin) -> None:
    for target in ELSEWHERE:
        answer = admin.http.post("/admin/ui/login", data={"token": READ, "next": target}, headers=OURS)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/admin/"), target


# visits


def test_a_visit_ends_when_nobody_looks_and_at_the_latest_after_half_a_day(make_node: Callable[..., Node]) -> None:
    now = 1_000_000.0
    visits = Visits(make_node(admin_token=WRITE).settings, lambda: now)
    visit = visits.begin(parse_grants(WRITE)[0])
    assert visits.read(visits.cookie(visit)) == visit
    assert visits.renewed(visit) is None
    now += IDLE - 1
    assert visits.read(visits.cookie(visit)) == visit
    later = visits.renewed(visit)
    now += 1
    assert visits.read(visits.cookie(visit)) is None
    while later is not None and visits.read(visits.cookie(later)):
        now += IDLE - 1
        later = visits.renewed(later)
    assert LONGEST <= now - 1_000_000 < LONGEST + IDLE


def test_a_cookie_that_is_not_ours_is_none(make_node: Callable[..., Node]) -> None:
    settings = make_node(admin_token=f"read {READ}, {WRITE}").settings
    visits = Visits(settings)
    read, write = (visits.cookie(visits.begin(grant)) for grant in parse_grants(f"read {READ}, {WRITE}"))
    found = visits.read(read)
    assert found is not None
    assert found.grant.scope is Scope.READ
    swapped = ".".join([write.split(".")[0], *read.split(".")[1:]])
    later = ".".join([*read.split(".")[:3], str(int(read.split(".")[3]) + 100), read.split(".")[4]])
    for cookie in (None, "", "x", swapped, later, read[:-1], f"{read} ", read.upper(), visits.form_token(found)):
        assert visits.read(cookie) is None, cookie
    assert Visits(settings).read(read) is not None, "another process of the same deployment takes it"
    assert Visits(make_node(admin_token=WRITE).settings).read(write) is None, "a token was taken away"
    assert Visits(make_node(admin_token=f"read {READ}, {WRITE}", secret_key="k" * 50).settings).read(read) is None


def test_a_visit_lasts_no_longer_than_its_token(make_node: Callable[..., Node]) -> None:
    text, now = f"{WRITE} 2026-01-01", 1767225600 - 10.0  # ten seconds before that day begins
    visits = Visits(make_node(admin_token=text).settings, lambda: now)
    cookie = visits.cookie(visits.begin(parse_grants(text)[0]))
    assert visits.read(cookie) is not None
    now += 10
    assert visits.read(cookie) is None


def test_a_page_that_renews_itself_keeps_no_visit_alive(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages.visits, "RENEW", 0)
    with visitor(admin.http.base_url) as http:
        assert "Set-Cookie" in http.get("/admin/").headers
        assert "Set-Cookie" not in http.get("/admin/", headers={"HX-Request": "true"}).headers


# what is sent


def test_every_page_is_kept_out_of_caches_and_frames_and_runs_our_scripts_only(admin: Admin) -> None:
    session, _ = admin.node.sessions.create()
    with visitor(admin.http.base_url) as http:
        names = ("sessions", "volumes", "owed", "dead-letters", "holds", "nodes", "sweeps", "nothing", "sessions/x")
        for path in ("/", "/ui/login", f"/ui/sessions/{session.id}/end", *(f"/ui/{name}" for name in names)):
            answer = http.get(f"/admin{path}")
            policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
            if answer.status_code == 303:
                continue
            assert policy == {
                "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self' data:",
                "connect-src": "'self'", "form-action": "'self'", "frame-ancestors": "'none'", "base-uri": "'none'",
            }, path  # fmt: skip
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", answer.text), path


def test_files_are_cached_by_their_content(admin: Admin) -> None:
    page = admin.http.get("/admin/ui/login").text
    (name,) = re.findall(r'href="(/admin/ui/static/admin\.css\?v=[0-9a-f]{12})"', page)
    answer = admin.http.get(name)
    assert answer.headers["Content-Type"] == "text/css; charset=utf-8"
    assert "immutable" in answer.headers["Cache-Control"]
    for bad in ("..%2frendering.py", "rendering.py", "LICENSES.txt", "%2e%2e/visits.py"):
        assert admin.http.get(f"/admin/ui/static/{bad}", follow_redirects=False).status_code in (303, 404)


BAD = (
    "/admin/ui/sessions?idle_for=soon", "/admin/ui/sessions?bytes_over=-1", "/admin/ui/sessions?state=dead",
    "/admin/ui/sessions?cursor=x", "/admin/ui/sessions?session=a.b", "/admin/ui/owed?cursor=x",
    "/admin/ui/sweeps?run=..%2f", "/admin/ui/sessions?ended=many", "/admin/ui/sessions/x", "/admin/ui/nothing",
    "/admin/ui/dead-letters/x/drop", "/admin/ui/holds/lift?scope=x", "/admin/ui/sessions?user=" + "u" * 600,
    "/admin/ui/sessions/end?id=x",
)  # fmt: skip


def test_bad_input_is_a_page_that_says_so(admin: Admin) -> None:
    with visitor(admin.http.base_url) as http:
        for path in BAD:
            answer = http.get(path)
            assert answer.status_code in (404, 422), path
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
            assert 'role="alert"' in answer.text
            assert "Traceback" not in answer.text


def test_by_https_the_cookie_is_for_https_alone(make_admin: Callable[..., Admin]) -> None:
    admin = make_admin(trusted_proxies="127.0.0.1")
    forwarded = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    answer = admin.http.post("/admin/ui/login", data={"token": WRITE}, headers={**OURS, **forwarded})
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"__Secure-{COOKIE}=")
    assert {"HttpOnly", "Path=/admin", "SameSite=strict", "Secure"} == set(cookie.split("; ")[1:])
    sent = {**forwarded, "Cookie": cookie.split(";")[0]}
    assert admin.http.get("/admin/", headers=sent).status_code == 200
    # whoever sits in between can't smuggle one in by http
    smuggled = {**sent, "Cookie": sent["Cookie"].removeprefix("__Secure-")}
    assert admin.http.get("/admin/", headers=smuggled).status_code == 303


def test_it_works_below_any_prefix(make_node: Callable[..., Node]) -> None:
    node = make_node(admin_token=WRITE, sweeper="in-process")
    session, _ = node.sessions.create(user="ana")
    app = Starlette(routes=[Mount("/ops", create_admin(sessions=node.sessions))])
    with serving(app) as url, visitor(url, prefix="/ops") as http:
        assert http.get("/ops/").headers["location"] == "/ops/admin/"
        (cookie,) = http.cookies.jar
        assert cookie.path == "/ops/admin"
        page = http.get("/ops/admin/ui/sessions")
        assert page.status_code == 200
        links = re.findall(r'(?:href|action|src)="([^"#]+)"', page.text)
        assert len(links) > 10
        for link in links:
            assert link.startswith("/ops/admin/"), link
        assert 'href="/ops/admin/ui/sessions" aria-current="page"' in page.text
        data = {"form_token": form_token(http, "/ops/admin/")}
        answer = http.post(f"/ops/admin/ui/sessions/{session.id}/end", data=data)
        assert answer.headers["Location"] == "/ops/admin/ui/sessions?ended=1"


def test_it_works_inside_a_wsgi_app(make_node: Callable[..., Node]) -> None:
    node = make_node(admin_token=WRITE, sweeper="in-process")
    inner = ASGIMiddleware(create_admin(sessions=node.sessions))  # type: ignore[arg-type]
    client = WsgiClient(DispatcherMiddleware(lambda *_: [b""], {"/ops": inner}))  # type: ignore[arg-type]
    answer = client.post("/ops/admin/ui/login", data={"token": WRITE}, headers=OURS)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/ops/admin/")
    assert 'href="/ops/admin/ui/sessions"' in client.get("/ops/admin/").text


# its cost, and its files


def test_a_page_costs_the_same_at_any_number_of_sessions(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[op.Operation[Any]] = []
    for name in ("execute", "execute_many"):
        send = getattr(admin.node.store, name)

        def counted(what: Any, send: Any = send) -> Any:
            asked.extend(what if isinstance(what, list) else [what])
            return send(what)

        monkeypatch.setattr(admin.node.store, name, counted)

    def cost(http: httpx.Client, path: str) -> int:
        asked.clear()
        assert http.get(path).status_code == 200
        return len(asked)

    with visitor(admin.http.base_url) as http:
        for _ in range(60):
            admin.node.sessions.create()
        paths = ("/admin/", "/admin/ui/volumes", "/admin/ui/sessions", "/admin/ui/nodes", "/admin/ui/holds")
        few = [cost(http, path) for path in paths]
        for _ in range(200):
            admin.node.sessions.create()
        assert [cost(http, path) for path in paths] == few
        assert max(few) < 70


def test_the_wheel_has_templates_and_files(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    (built,) = WheelBuilder(str(root)).build(directory=str(tmp_path), versions=["standard"])
    below = root / "shared"
    wanted = {
        str(file.relative_to(below))
        for folder in ("templates", "static")
        for file in (below / "sessionsweep/admin/pages" / folder).iterdir()
    }
    assert len(wanted) > 15
    assert wanted <= set(zipfile.ZipFile(built).namelist())


def test_a_selected_session_that_cannot_be_read_keeps_none_behind_it_from_ending(admin: Admin) -> None:
    broken, other = (admin.node.sessions.create()[0] for _ in range(2))
    with redis.Redis.from_url(admin.node.settings.redis_url) as server:
        server.set(admin.node.store.keys.session(broken.id), b"\x01short")
    with visitor(admin.http.base_url) as http:
        form = {"id": [broken.id, other.id], "form_token": form_token(http)}
        answer = http.post("/admin/ui/sessions/end", data=form, follow_redirects=True)
    assert answer.status_code == 200
    assert "1 session ended. 1 record can&#39;t be read and stayed" in answer.text
    assert admin.node.sessions.get(other.id) is None
