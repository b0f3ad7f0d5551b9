"""The admin API's endpoints, field by field, as the clients written for them expect; and what each refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime

import pytest
import redis
from admin_client import OVER, READ, WRITE, Admin

from sessionsweep import Client
from sessionsweep.admin.access import WRONG_A_MINUTE
from sessionsweep.model.holds import ALL, Hold
from sessionsweep.model.ids import new_session_id
from sessionsweep.operator import search
from sessionsweep.store import operations as op
from sessionsweep_workers.devstack.server import EmbeddedServer

CALLER = {
    "session_id", "user_id", "ip_address", "created_at", "last_activity", "duration_seconds", "idle_seconds",
    "request_count", "resource_count", "total_bytes_used", "resources",
}  # fmt: skip


def test_the_list_has_the_documented_fields(admin: Admin) -> None:
    session, _ = admin.node.sessions.create(Client("192.0.2.7", "curl/8"))
    rid, path = admin.node.write(session, 1234)
    admin.node.advance(3)
    found = admin.get("/sessions")
    (one,) = found["sessions"]
    assert set(one) >= CALLER
    assert (one["session_id"], one["user_id"], one["ip_address"]) == (session.id, None, "192.0.2.7")
    assert (one["request_count"], one["resource_count"], one["total_bytes_used"]) == (1, 1, 1234)
    assert 3 <= one["duration_seconds"] < 4
    assert 3 <= one["idle_seconds"] < 4
    assert datetime.fromisoformat(one["created_at"]).tzinfo is not None
    (resource,) = one["resources"]
    assert (resource["resource_id"], resource["kind"], resource["size"], resource["path"]) == (
        rid, "file", 1234, str(path),
    )  # fmt: skip
    assert found["stats"] == {
        "total_sessions_created": 1,
        "total_sessions_cleaned": 0,
        "active_sessions": 1,
        "avg_session_duration": 0.0,
        "avg_resources_per_session": 1.0,
    }
    assert found["next_cursor"] is None


def test_the_metrics_have_the_documented_fields(admin: Admin) -> None:
    session, _, _ = admin.node.session_with_file(500)
    admin.node.session_with_file(70)
    session.end()
    admin.node.reclaim.run_once()
    assert admin.get("/sessions/metrics") == {
        "sessions": {"active": 1, "total_created": 2, "total_cleaned": 1},
        "resources": {"active": 1, "total_cleaned": 1, "active_bytes": 70, "total_bytes_cleaned": 500},
        "limits": {
            "max_session_duration": 100.0,
            "max_idle_time": 10.0,
            "max_resources_per_session": 100,
            "max_bytes_per_session": 100_000_000,
            "max_streams_per_session": 20,
            "max_sessions": None,
            "max_sessions_per_user": None,
        },
    }


def test_cleanup_ends_a_session_and_can_be_repeated(admin: Admin) -> None:
    session, _, path = admin.node.session_with_file(9)
    assert admin.post(f"/sessions/{session.id}/cleanup") == {
        "success": True, "session_id": session.id, "ended": True, "reason": "admin", "owed": 1,
    }  # fmt: skip
    again = admin.post(f"/sessions/{session.id}/cleanup")
    assert (again["ended"], again["reason"]) == (False, "admin")
    shown = admin.get(f"/sessions/{session.id}")
    assert (shown["state"], shown["reason"], shown["owed"]) == ("ended", "admin", 1)
    assert shown["resources"][0]["state"] == "owed"
    admin.node.reclaim.run_once()
    assert not path.exists()
    assert admin.get(f"/sessions/{session.id}")["deleted"] == 1


def test_a_session_alone(admin: Admin) -> None:
    session, _, _ = admin.node.session_with_file(9, user="ana")
    shown = admin.get(f"/sessions/{session.id}")
    assert set(shown) >= CALLER
    assert (shown["state"], shown["user_id"], shown["node"]) == ("live", "ana", "a")
    admin.node.advance(11)
    assert admin.get(f"/sessions/{session.id}")["state"] == "due"


def test_reading_renews_nothing(admin: Admin) -> None:
    session, _, _ = admin.node.session_with_file(9)
    admin.node.advance(9)
    for path in ("/sessions", f"/sessions/{session.id}", "/sessions/metrics", "/stats", "/volumes", "/owed"):
        admin.get(path)
    admin.node.advance(2)
    admin.node.sweep.run_once()
    assert admin.get(f"/sessions/{session.id}")["reason"] == "idle"


def test_filters_and_pages(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    node = admin.node
    for number in range(12):
        client = Client(f"192.0.2.{number % 3}", None)
        session, _ = node.sessions.create(client, user=f"u{number % 2}")
        if number % 4 == 0:
            node.write(session, 1000 * (number + 1))
    node.advance(4)
    fresh, _ = node.sessions.create(Client("2001:db8::1"))

    def ids(**params: object) -> set[str]:
        return {one["session_id"] for one in admin.get("/sessions", **params)["sessions"]}

    assert len(ids()) == 13
    assert len(ids(user="u1")) == 6
    assert len(ids(address="192.0.2.0")) == 4
    assert ids(address="2001:db8::1") == {fresh.id}
    assert len(ids(idle_for="3s")) == 12
    assert len(ids(bytes_over="4500")) == 2
    assert len(ids(user="u0", bytes_over=1000)) == 2
    assert len(ids(node="a")) == 13
    assert ids(node="b") == ids(state="due") == set()
    node.advance(7)
    assert len(ids(state="due")) == 12
    assert ids(state="live") == {fresh.id}

    seen: list[str] = []
    cursor = None
    while True:
        page = admin.get("/sessions", limit=5, **({"cursor": cursor} if cursor else {}))
        seen += [one["session_id"] for one in page["sessions"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 13
    # what matches little looks at a bounded number, and says where to go on
    monkeypatch.setattr(search, "LOOKS", 4)
    short = admin.get("/sessions", user="nobody") | {"stats": None}
    assert (short["sessions"], short["next_cursor"]) == ([], None)
    short = admin.get("/sessions", address="203.0.113.9")
    assert (short["sessions"], short["looked_at"], bool(short["next_cursor"])) == ([], 4, True)


def test_a_page_lists_a_bounded_number_of_resources(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        session, _, _ = admin.node.session_with_file(1)
        admin.node.write(session, 1)
    monkeypatch.setattr(search, "RESOURCES", 5)
    page = admin.get("/sessions")
    assert sorted(len(one["resources"]) for one in page["sessions"]) == [0, 2, 2]
    assert all(one["resource_count"] == 2 for one in page["sessions"])
    assert page["resources_complete"] is False
    assert admin.get("/sessions", resources=False)["sessions"][0]["resources"] == []


def test_all_of_a_users(admin: Admin) -> None:
    kept, _ = admin.node.sessions.create(user="ana/ü")
    for user in ("ana/ü", "ana/ü", "bo"):
        admin.node.sessions.create(user=user)
    assert admin.post("/users/cleanup", {"user_id": "ana/ü", "except_id": kept.id})["count"] == 2
    assert {one["user_id"] for one in admin.get("/sessions")["sessions"]} == {"ana/ü", "bo"}
    assert admin.post("/users/cleanup", {"user_id": "ana/ü"})["count"] == 1


def test_a_record_that_is_damaged_hides_no_other(admin: Admin, redis_url: str, namespace: str) -> None:
    sessions = [admin.node.sessions.create()[0] for _ in range(3)]
    with redis.Redis.from_url(redis_url) as client:
        (key,) = [
            key for key in client.scan_iter(match=f"*{sessions[1].id}*", count=10_000) if client.type(key) == b"string"
        ]
        client.set(key, b"garbage")
    assert {one["session_id"] for one in admin.get("/sessions")["sessions"]} == {sessions[0].id, sessions[2].id}


# what is owed, held and dead


def test_holds_are_shown_and_lifted(admin: Admin) -> None:
    now = admin.node.store.execute(op.Facts()).now
    hold = Hold(ALL, "rolled-back", "an old snapshot was loaded", now, "a")
    admin.node.store.execute(op.TablePut("holds", ALL, hold.encode()))
    (shown,) = admin.get("/holds")["holds"]
    assert (shown["scope"], shown["reason"], shown["node"]) == ("all", "rolled-back", "a")
    assert "sessionsweep users end --all" in shown["remedy"]
    assert admin.post("/holds/lift", {"scope": "all"})["reason"] == "rolled-back"
    assert admin.get("/holds") == {"holds": []}
    assert admin.post("/holds/lift", {"scope": "all"}, status=404)["status"] == 404


def test_what_is_owed_and_dead_is_shown_and_acted_upon(make_admin: Callable[..., Admin]) -> None:
    admin = make_admin(reclaim_tries=1)
    session, rid, path = admin.node.session_with_file(9)
    path.unlink()
    path.mkdir()  # no file of ours: it can't be deleted
    session.end()
    (waiting,) = admin.get("/owed")["owed"]
    assert (waiting["resource_id"], waiting["tries"], waiting["end_reason"]) == (rid, 0, "logout")
    admin.node.advance(5)
    admin.node.reclaim.run_once()
    (letter,) = admin.get("/dead-letters")["dead_letters"]
    assert (letter["resource_id"], letter["error"], letter["path"]) == (rid, "not-regular", str(path))
    assert admin.post(f"/dead-letters/{rid}/retry")["count"] == 1
    assert admin.get("/dead-letters") == {"dead_letters": []}
    admin.node.advance(5)
    admin.node.reclaim.run_once()
    assert admin.post(f"/dead-letters/{rid}/drop")["count"] == 1
    assert admin.post(f"/dead-letters/{rid}/drop", status=404)["title"] == "Not found"
    assert path.exists()


def test_volumes_nodes_and_totals(admin: Admin) -> None:
    session, _, _ = admin.node.session_with_file(9)
    admin.node.upkeep.run_once()
    session.end()
    stats = admin.get("/stats")
    assert (stats["total_sessions_created"], stats["imbalance"]) == (1, 0)
    assert [node["name"] for node in stats["nodes"]] == ["a"]
    (volume,) = admin.get("/volumes")["volumes"]
    assert (volume["name"], volume["debt"]["owed"], volume["debt"]["bytes"]) == ("a", 1, 9)
    assert [node["alive"] for node in admin.get("/nodes")["nodes"]] == [True]


# tokens


@pytest.mark.parametrize("path", ["/admin/sessions", "/admin/sessions/x", "/admin/holds", "/admin/sweeps"])
def test_without_a_token_nothing_is_told(admin: Admin, path: str) -> None:
    for headers in ({}, {"X-Admin-Token": ""}, {"X-Admin-Token": "wrong"}, {"Authorization": f"Basic {WRITE}"}):
        answer = admin.http.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["detail"] == "A valid admin token is needed: X-Admin-Token, or Authorization: Bearer."


def test_a_bearer_is_a_token_too(admin: Admin) -> None:
    assert admin.http.get("/admin/sessions", headers={"Authorization": f"Bearer {READ}"}).status_code == 200


def test_a_token_that_is_over_is_a_wrong_one(admin: Admin) -> None:
    assert admin.http.get("/admin/sessions", headers={"X-Admin-Token": OVER}).status_code == 401


def test_a_token_for_reading_changes_nothing(admin: Admin) -> None:
    session, _ = admin.node.sessions.create(user="ana")
    for path, body in (
        (f"/admin/sessions/{session.id}/cleanup", None),
        ("/admin/users/cleanup", {"user_id": "ana"}),
        ("/admin/holds/lift", {"scope": "all"}),
        ("/admin/dead-letters/x/retry", None),
        ("/admin/dead-letters/x/drop", None),
        ("/admin/owed/retry", None),
        ("/admin/sweeps/idle", None),
    ):
        answer = admin.http.post(path, json=body, headers={"X-Admin-Token": READ})
        assert (answer.status_code, answer.json()["title"]) == (403, "Forbidden"), path
    assert admin.get(f"/sessions/{session.id}")["state"] == "live"


def test_whoever_guesses_is_slowed_down_and_locks_nobody_out(admin: Admin) -> None:
    admin.get("/sessions")  # the reader is known from here
    for number in range(WRONG_A_MINUTE):
        assert admin.http.get("/admin/holds", headers={"X-Admin-Token": f"guess-{number}"}).status_code == 401
    answer = admin.http.get("/admin/holds", headers={"X-Admin-Token": "guess"})
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    # a guess that is right is none the wiser, but who was right before goes on
    assert admin.http.get("/admin/holds", headers={"X-Admin-Token": WRITE}).status_code == 429
    admin.get("/holds")


# bad input


BAD = [
    ("GET", "/sessions?limit=0", None, 422),
    ("GET", "/sessions?limit=1001", None, 422),
    ("GET", "/sessions?limit=many", None, 422),
    ("GET", "/sessions?cursor=*", None, 422),
    ("GET", "/sessions?cursor=0.0.0", None, 422),
    ("GET", "/sessions?cursor=0.0.0.*", None, 422),
    ("GET", "/sessions?cursor=-1.0.0.", None, 422),
    ("GET", "/sessions?cursor=9999999999999999999.0.0.", None, 422),
    ("GET", "/sessions?cursor=" + "9" * 5000, None, 422),
    ("GET", "/sessions?idle_for=soon", None, 422),
    ("GET", "/sessions?idle_for=-1", None, 422),
    ("GET", "/sessions?bytes_over=lots", None, 422),
    ("GET", "/sessions?bytes_over=NaN", None, 422),
    ("GET", "/sessions?state=dead", None, 422),
    ("GET", "/sessions?user=" + "u" * 256, None, 422),
    ("GET", "/sessions/*", None, 404),
    ("GET", "/sessions/%00", None, 404),
    ("GET", "/sessions/..%2f..%2fetc", None, 404),
    ("GET", "/sessions/" + "a" * 20, None, 404),
    ("GET", "/sessions/" + "A" * 20, None, 404),
    ("GET", "/sessions/" + "a" * 5000, None, 422),
    ("GET", f"/sessions/{'a' * 20}.{'b' * 43}", None, 404),
    ("GET", f"/sessions/{new_session_id('00')}", None, 404),
    ("GET", "/sessions/%F0%9F%92%A5", None, 404),
    ("POST", "/sessions/*/cleanup", None, 404),
    ("POST", f"/sessions/{new_session_id('00')}/cleanup", None, 404),
    ("GET", f"/sessions/{new_session_id('00')}/cleanup", None, 405),
    ("DELETE", f"/sessions/{new_session_id('00')}", None, 405),
    ("PUT", "/sessions", None, 405),
    ("GET", "/users/cleanup", None, 405),
    ("GET", "/holds/lift", None, 405),
    ("POST", "/users/cleanup", b"", 422),
    ("POST", "/users/cleanup", b"{", 422),
    ("POST", "/users/cleanup", b"null", 422),
    ("POST", "/users/cleanup", b"[]", 422),
    ("POST", "/users/cleanup", b"{}", 422),
    ("POST", "/users/cleanup", b'{"user_id": ""}', 422),
    ("POST", "/users/cleanup", b'{"user_id": null}', 422),
    ("POST", "/users/cleanup", b'{"user_id": 7}', 422),
    ("POST", "/users/cleanup", b'{"user_id": ["ana"]}', 422),
    ("POST", "/users/cleanup", b'{"user_id": "a\\u0000b"}', 422),
    ("POST", "/users/cleanup", b'{"user_id": "\\ud800"}', 422),
    ("POST", "/users/cleanup", b'{"user_id": "' + b"u" * 300 + b'"}', 422),
    ("POST", "/users/cleanup", '{"user_id": "ü"}'.encode("latin-1"), 400),
    ("POST", "/users/cleanup", b'{"user_id": "ana", "everything": true}', 422),
    ("POST", "/users/cleanup", b'{"user_id": "ana", "except_id": "*"}', 404),
    ("POST", "/users/cleanup", b'{"user_id": "' + b"u" * 100_000 + b'"}', 413),
    ("POST", "/users/cleanup", b"[" * 60_000, 400),
    ("POST", "/holds/lift", b'{"scope": ""}', 422),
    ("POST", "/holds/lift", b'{"scope": "*"}', 404),
    ("POST", "/holds/lift", b'{"scope": "' + b"x" * 201 + b'"}', 422),
    ("POST", "/dead-letters/*/retry", None, 404),
    ("POST", "/dead-letters/" + "a" * 16 + "/drop", None, 404),
    ("POST", "/sweeps/everything", None, 422),
    ("POST", "/sweeps/idle", None, 409),  # SWEEPER=in-process: nobody takes orders
    ("GET", "/sweeps/..%2f", None, 404),
    ("GET", "/owed?cursor=x", None, 422),
    ("GET", "/owed?cursor=00:v.x:-1:0:0", None, 422),
    ("GET", "/owed?limit=1e9", None, 422),
    ("GET", "/nothing", None, 404),
    ("GET", "/../sessions", None, 404),
    ("TRACE", "/sessions", None, 405),
]


def test_bad_input_gets_a_clear_answer_and_changes_nothing(make_admin: Callable[..., Admin]) -> None:
    admin = make_admin(idle_timeout=6000, max_duration=60_000)  # no session ends by itself, however slow the machine
    session, _ = admin.node.sessions.create(user="ana")
    headers = {"X-Admin-Token": WRITE, "Content-Type": "application/json"}
    for method, path, body, status in BAD:
        answer = admin.http.request(method, f"/admin{path}", content=body, headers=headers)
        what = f"{method} {path[:80]} {body and body[:80]!r}: {answer.text}"
        assert answer.status_code == status, what
        assert answer.headers["Content-Type"] == "application/problem+json", what
        told = answer.json()
        assert told["status"] == status, what
        assert told["title"], what
        assert told["detail"], what
        assert "Traceback" not in answer.text
        assert answer.headers["X-Content-Type-Options"] == "nosniff", what
        assert answer.headers["Cache-Control"] == "no-store", what
        assert admin.node.sessions.get(session.id) is not None, what


def test_a_token_in_the_place_of_an_id_is_not_repeated(admin: Admin) -> None:
    _, token = admin.node.sessions.create()
    answer = admin.http.get(f"/admin/sessions/{token}", headers={"X-Admin-Token": READ})
    assert answer.status_code == 404
    assert token.split(".")[1] not in answer.text
    assert "only the part before the dot" in answer.json()["detail"]


def test_names_of_users_stay_json(admin: Admin) -> None:
    admin.node.sessions.create(user='<script>alert("x")</script>')
    answer = admin.http.get("/admin/sessions", headers={"X-Admin-Token": READ})
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json()["sessions"][0]["user_id"] == '<script>alert("x")</script>'


def test_a_store_that_is_away_is_a_503_without_its_address(
    own_server: Callable[..., object], make_admin: Callable[..., Admin]
) -> None:
    server = own_server()
    admin = make_admin(url=server.url)  # type: ignore[attr-defined]
    admin.get("/sessions")
    server.kill()  # type: ignore[attr-defined]
    answer = admin.http.get("/admin/sessions", headers={"X-Admin-Token": READ})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert "127.0.0.1" not in answer.text


def test_an_order_that_a_full_broker_does_not_take_says_so(
    own_server: Callable[..., EmbeddedServer], make_admin: Callable[..., Admin]
) -> None:
    server = own_server()
    admin = make_admin(url=server.url, sweeper="workers")
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 1)
    told = admin.post("/sweeps/idle", status=503)["detail"]
    assert told.startswith("The broker's memory is full (maxmemory), so it takes no message.")


def test_it_describes_itself(admin: Admin) -> None:
    described = admin.http.get("/admin/openapi.json").json()
    assert described["openapi"].startswith("3.")
    assert set(described["paths"]) >= {"/admin/sessions", "/admin/sessions/{session_id}/cleanup"}
    assert "X-Admin-Token" in json.dumps(described["components"]["securitySchemes"])
