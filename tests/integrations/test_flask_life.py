"""A session's life in Flask: what is no activity, how long is left, one's other sessions; and the commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
from flask import Flask, Response, jsonify
from flask.testing import FlaskClient
from flask.views import MethodView
from flask_apps import Apps, Make, advance, sessions_of

from sessionsweep.engine.reclaim import Reclaim
from sessionsweep.engine.sweep import BATCH, Sweep
from sessionsweep.integrations.flask import current_session, no_activity, session_routes

SHORT = {"SESSIONSWEEP_IDLE_TIMEOUT": "100s", "SESSIONSWEEP_MAX_DURATION": "1000s"}


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest, namespace: str) -> Iterator[Make]:
    """Apps on either store."""
    apps = Apps("memory://" if request.param == "memory" else request.getfixturevalue("redis_url"), namespace)
    yield apps
    apps.close()


def views(app: Flask) -> Flask:
    app.register_blueprint(session_routes())

    @app.post("/login/<user>")
    def log_in(user: str) -> str:
        current_session.log_in(user)
        return str(current_session.id)

    @app.get("/read")
    def read() -> Response:
        return jsonify(id=current_session.id)

    @app.get("/nothing")
    def nothing() -> str:
        return "ok"

    return app


def log_in(app: Flask, user: str = "ana", agent: str = "Firefox") -> tuple[FlaskClient, str]:
    client = app.test_client()
    client.environ_base["HTTP_USER_AGENT"] = agent
    return client, client.post(f"/login/{user}").text


def activity(app: Flask, session_id: str) -> tuple[Any, int]:
    session = sessions_of(app).attach(session_id)
    return session.last_activity, session.request_count


# what is no activity


class Board(MethodView):
    def get(self) -> str:
        return str(current_session.id)


@no_activity
class Quiet(MethodView):
    def get(self) -> str:
        flask.session["seen"] = True
        return str(current_session.id)


def test_requests_that_are_no_activity_see_the_session_and_renew_nothing(make: Make) -> None:
    app = views(make(SESSIONSWEEP_NO_ACTIVITY_PATHS=["/poll/*", "/healthz"], **SHORT))
    app.add_url_rule("/board", view_func=Board.as_view("board"))
    app.add_url_rule("/quiet", view_func=Quiet.as_view("quiet"))
    app.add_url_rule("/poll/<path:what>", "poll", lambda what: str(current_session.id))
    app.add_url_rule("/marked", "marked", no_activity(lambda: str(current_session.id)))
    app.add_url_rule("/pollute", "pollute", lambda: str(current_session.id))
    client, session_id = log_in(app)
    before = activity(app, session_id)
    advance(app, 5)
    for url in ("/poll/a/b", "/marked", "/quiet"):
        assert client.get(url).text == session_id
        assert activity(app, session_id) == before, url
    assert sessions_of(app).attach(session_id).data == {"seen": True}, "what it sets is kept"
    for url in ("/pollute", "/board"):
        assert client.get(url).text == session_id
        after = activity(app, session_id)
        assert after > before, url
        before = after
    for _ in range(3):
        advance(app, 40)
        client.get("/poll/x")
    assert client.get("/poll/x").text == "None", "polling kept nobody logged in"


def test_a_single_pattern_may_be_a_text(make: Make) -> None:
    app = views(make(SESSIONSWEEP_NO_ACTIVITY_PATHS="/read", **SHORT))
    client, session_id = log_in(app)
    before = activity(app, session_id)
    advance(app, 5)
    client.get("/read")
    assert activity(app, session_id) == before


# the time that is left


def test_the_endpoint_tells_the_time_and_renews_nothing_and_extend_does(make: Make) -> None:
    app = views(make(**SHORT))
    fresh = app.test_client()
    assert fresh.get("/sessionsweep/time-left").json == {"seconds": None}
    assert fresh.post("/sessionsweep/extend").json == {"seconds": None}
    client, session_id = log_in(app)
    before = activity(app, session_id)
    for left in (70, 40):
        advance(app, 30)
        answer = client.get("/sessionsweep/time-left")
        assert answer.json is not None
        assert answer.json["seconds"] == pytest.approx(left, abs=5)
        assert answer.headers["Cache-Control"] == "private, no-store"
    assert activity(app, session_id) == before
    assert client.get("/sessionsweep/extend").status_code == 405, "no change by GET"
    answer = client.post("/sessionsweep/extend")
    assert (answer.json or {})["seconds"] == pytest.approx(100, abs=5)
    assert activity(app, session_id) > before
    advance(app, 101)
    assert client.get("/sessionsweep/time-left").json == {"seconds": None}
    assert client.post("/sessionsweep/extend").json == {"seconds": None}, "nothing is raised from the dead"


def test_the_script_that_warns_is_served_to_anybody_and_to_caches(make: Make) -> None:
    answer = views(make()).test_client().get("/sessionsweep/warning.js")
    assert b"currentScript" in answer.data
    assert answer.content_type == "text/javascript; charset=utf-8"
    assert "Vary" not in answer.headers
    assert "public" in answer.headers["Cache-Control"]


def test_the_header_tells_whole_seconds_where_the_session_was_used(make: Make) -> None:
    app = views(
        make(SESSIONSWEEP_TIME_LEFT_HEADER="X-Session-Time-Left", SESSIONSWEEP_NO_ACTIVITY_PATHS=["/read"], **SHORT)
    )
    client, session_id = log_in(app)
    before = activity(app, session_id)
    advance(app, 30.5)
    left = client.get("/read").headers["X-Session-Time-Left"]
    assert left.isdecimal()
    assert 60 <= int(left) <= 69
    assert activity(app, session_id) == before
    assert "X-Session-Time-Left" not in client.get("/nothing").headers
    assert "X-Session-Time-Left" not in app.test_client().get("/read").headers


# a user's other sessions


def test_i_see_my_other_sessions_and_end_one_or_all_of_them(make: Make) -> None:
    app = views(make(SESSIONSWEEP_TRUSTED_PROXIES="none"))
    (here, mine), (phone, phones), (laptop, _), (bob, bobs) = (
        log_in(app, "ana", "Firefox"),
        log_in(app, "ana", "Phone"),
        log_in(app, "ana", "Laptop"),
        log_in(app, "bob", "Chrome"),
    )
    advance(app, 2)
    phone.get("/read")
    listed = (here.get("/sessionsweep/others").json or {})["sessions"]
    assert [(one["device"], one["address"]) for one in listed] == [("Phone", "127.0.0.1"), ("Laptop", "127.0.0.1")]
    assert all("." not in one["id"] for one in listed), "ids, never tokens"
    assert {one["id"] for one in listed} & {mine, bobs} == set()

    for nobodys in (bobs, mine, "0" * 20, "../x", phones + ".secret"):
        assert here.post(f"/sessionsweep/others/{nobodys}/end").status_code == 404, nobodys
    assert app.test_client().post(f"/sessionsweep/others/{phones}/end").status_code == 404, "nor a stranger's"
    assert bob.get("/read").json == {"id": bobs}
    assert here.post(f"/sessionsweep/others/{phones}/end").status_code == 204
    assert phone.get("/read").json == {"id": None}
    assert laptop.get("/read").json != {"id": None}

    assert here.post("/sessionsweep/others/end").json == {"ended": 1}
    assert laptop.get("/read").json == {"id": None}
    assert here.get("/read").json == {"id": mine}
    assert bob.get("/read").json == {"id": bobs}
    assert here.get("/sessionsweep/others").json == {"sessions": []}


def test_an_anonymous_client_has_no_other_sessions_and_ends_none(make: Make) -> None:
    app = views(make())
    one, other = app.test_client(), app.test_client()
    for client in (one, other):
        with client.session_transaction() as session:
            session["x"] = 1
    assert one.get("/sessionsweep/others").json == {"sessions": []}
    assert one.post("/sessionsweep/others/end").json == {"ended": 0}
    theirs = (other.get("/read").json or {})["id"]
    assert one.post(f"/sessionsweep/others/{theirs}/end").status_code == 404
    assert other.get("/read").json == {"id": theirs}


# the commands


@pytest.fixture
def app(redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Flask]:
    """An app with files, on Redis."""
    apps = Apps(redis_url, namespace)
    config = {"SESSIONSWEEP_GRACE_PERIOD": 0, "SESSION_STORAGE_PATH": str(tmp_path / "files"), **SHORT}
    made = views(apps(**config))

    @made.post("/file")
    def file() -> str:
        with current_session.new_file(purpose="tts") as f:
            f.write(b"x" * 1000)
        return str(f.path)

    yield made
    apps.close()


def run(app: Flask, *arguments: str) -> str:
    result = app.test_cli_runner().invoke(args=list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def test_sessions_list(app: Flask) -> None:
    assert run(app, "sessions-list") == "0 live sessions\n"
    client, ana = log_in(app)
    client.post("/file")
    _, bob = log_in(app, "bob\u202e")
    before = activity(app, ana)
    text = run(app, "sessions-list")
    assert f"{ana}  ana  127.0.0.1  idle 0s  1 resource, 1" in text
    assert bob in text
    assert "bob\\u202e" in text, "what a stranger chose is shown, and turns no text around"
    assert "2 live sessions" in text
    (row,) = json.loads(run(app, "sessions-list", "--json", "--user", "ana"))["sessions"]
    documented = "session_id user_id ip_address created_at last_activity duration_seconds idle_seconds request_count"
    assert {*documented.split(), "resource_count", "total_bytes_used"} <= set(row)
    assert (row["session_id"], row["resource_count"], row["total_bytes_used"]) == (ana, 1, 1000)
    assert activity(app, ana) == before, "reading renews nothing"


def test_sessions_cleanup_and_stats(app: Flask) -> None:
    client, _ = log_in(app)
    path = Path(client.post("/file").text)
    run(app, "sessions-cleanup")
    assert path.exists(), "its session lives"
    assert client.get("/read").json != {"id": None}
    advance(app, 100 + sessions_of(app).core.width / 1000)
    done = json.loads(run(app, "sessions-cleanup", "--json"))
    assert (done["sweep"]["idle"], done["reclaim"]["deleted"]) == (1, 1)
    assert not path.exists()
    assert "sweep: seconds" in run(app, "sessions-cleanup")
    text = run(app, "sessions-stats")
    assert "0 active, 1 created" in text
    assert "0 active, 0 owed" in text
    stats = json.loads(run(app, "sessions-stats", "--json"))
    documented = "total_sessions_created total_sessions_cleaned active_sessions avg_session_duration"
    assert {*documented.split(), "avg_resources_per_session"} <= set(stats)
    assert (stats["total_sessions_cleaned"], stats["resources"]["deleted"]) == (1, 1)


def test_sessions_cleanup_ends_all_that_is_due_however_long_it_takes(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (Sweep, Reclaim):  # a pass ends after one batch, unless it is told otherwise
        monkeypatch.setitem(kind.run_once.__kwdefaults__, "budget", 0.0)
    for _ in range(2 * BATCH):
        sessions_of(app).create()
    advance(app, 100 + sessions_of(app).core.width / 1000)
    assert json.loads(run(app, "sessions-cleanup", "--json"))["sweep"]["idle"] == 2 * BATCH


def test_the_commands_say_what_they_cant_see() -> None:
    apps = Apps("memory://", "cli")
    for command in ("sessions-list", "sessions-cleanup", "sessions-stats"):
        result = apps().test_cli_runner().invoke(args=[command])
        assert result.exit_code == 1
        assert "memory://" in result.output
    gone = Apps("redis://127.0.0.1:1/0", "cli")
    result = gone().test_cli_runner().invoke(args=["sessions-list"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: "), result.output
    apps.close()
    gone.close()


FOREIGN = [
    {"Sec-Fetch-Site": "same-site"},  # a sibling subdomain: SameSite=Lax lets its POST through
    {"Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://blog.shop.example"},
    {"Origin": "http://shop.example:8080"},
    {"Origin": "null"},
]


@pytest.mark.parametrize("fields", FOREIGN, ids=str)
def test_no_page_of_another_origin_ends_or_renews_sessions_in_flask(
    make: Make, fields: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    app = views(make(SERVER_NAME="shop.example"))
    here, _ = log_in(app)
    _, phones = log_in(app, agent="Phone")
    for path in (f"others/{phones}/end", "others/end", "extend"):
        refused = here.post(f"/sessionsweep/{path}", headers=fields)
        assert refused.status_code == 403, path
        assert refused.headers["Cache-Control"] == "private, no-store"
        assert path in caplog.messages[-1]
    assert here.get("/sessionsweep/time-left", headers=fields).status_code == 200, "which a page can't read"
    (left,) = (here.get("/sessionsweep/others").json or {})["sessions"]
    assert left["id"] == phones
    for own in ({"Origin": "http://shop.example"}, {"Origin": "http://proxy", "Sec-Fetch-Site": "same-origin"}, {}):
        assert here.post("/sessionsweep/extend", headers=own).status_code == 200, own
    assert here.post("/sessionsweep/others/end", headers={"Origin": "http://shop.example"}).json == {"ended": 1}


def test_a_front_end_of_a_listed_origin_may_end_and_renew(make: Make) -> None:
    app = make()
    app.register_blueprint(session_routes(allowed_origins=["https://app.example"]))
    listed = {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}
    assert app.test_client().post("/sessionsweep/others/end", headers=listed).json == {"ended": 0}
    other = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert app.test_client().post("/sessionsweep/others/end", headers=other).status_code == 403


def test_a_user_that_is_no_text_logs_nobody_out_in_flask(make: Make) -> None:
    app = views(make(TESTING=True))

    @app.post("/number")
    def number() -> None:
        current_session.log_in(5)  # type: ignore[arg-type]

    here, own = log_in(app, "5")
    with pytest.raises(TypeError, match=r"give text: str\("):
        here.post("/number")
    assert (here.get("/read").json or {})["id"] == own
