"""`flask.session` on both stores: what Flask documents of a session, what Flask-Session does, and our own promises."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

import flask
import pytest
from flask import Flask, Response, jsonify
from flask.json.tag import JSONTag
from flask.testing import FlaskClient
from flask_apps import Apps, Make, advance, sessions_of
from markupsafe import Markup

from sessionsweep import Settings
from sessionsweep.integrations.flask import SessionSweep, current_session, no_activity
from sessionsweep.store import operations as op

OURS = {"SESSIONSWEEP_IDLE_TIMEOUT": "10s", "SESSIONSWEEP_MAX_DURATION": "100s"}


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest, namespace: str) -> Iterator[Make]:
    """Apps on either store."""
    apps = Apps("memory://" if request.param == "memory" else request.getfixturevalue("redis_url"), namespace)
    yield apps
    apps.close()


def views(app: Flask) -> FlaskClient:
    """What the tests ask for, one thing per address."""

    @app.post("/set")
    def set_() -> str:
        flask.session.update(flask.request.get_json())
        return "ok"

    @app.get("/get")
    def get() -> Response:
        return jsonify(dict(flask.session))

    @app.get("/is/<key>")
    def has(key: str) -> str:
        return str(key in flask.session)

    @app.get("/nothing")
    def nothing() -> str:
        return "ok"

    @app.post("/clear")
    def clear() -> str:
        flask.session.clear()
        return "ok"

    @app.post("/permanent/<int:wanted>")
    def permanent(wanted: int) -> str:
        flask.session.permanent = bool(wanted)
        return "ok"

    @app.get("/poll")
    @no_activity
    def poll() -> Response:
        return jsonify(dict(flask.session))

    return app.test_client()


def count(app: Flask) -> int:
    return sessions_of(app).stats().active_sessions


def the_session(app: Flask) -> Any:
    (found,) = sessions_of(app).list()[0]
    return found


# what it keeps


def test_what_is_set_is_there_in_the_next_request(make: Make) -> None:
    app = make()
    client = views(app)
    assert client.post("/set", json={"a": 1, "b": [1, {"c": None}]}).status_code == 200
    assert client.get("/get").json == {"a": 1, "b": [1, {"c": None}]}
    assert count(app) == 1


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


class TagPoint(JSONTag):
    __slots__ = ()
    key = " p"

    def check(self, value: Any) -> bool:
        return isinstance(value, Point)

    def to_json(self, value: Any) -> Any:
        return value.x

    def to_python(self, value: Any) -> Any:
        return Point(value)


def test_flasks_own_types_come_back_as_they_were(make: Make) -> None:
    """Flask's test_session_special_types, and a tag of the app's own."""
    app = make()
    app.session_interface.serializer.register(TagPoint, index=0)  # type: ignore[attr-defined]
    now = datetime.now(UTC).replace(microsecond=0)
    the_uuid = uuid.uuid4()
    seen: dict[str, Any] = {}

    @app.post("/store")
    def store() -> str:
        flask.session["t"] = (1, 2, 3)
        flask.session["b"] = b"\xff"
        flask.session["m"] = Markup("<html>")
        flask.session["u"] = the_uuid
        flask.session["d"] = now
        flask.session["di"] = {" t": "not-a-tuple"}
        flask.session["di2"] = {" t__": "not-a-tuple"}
        flask.session["list"] = [(1, [b"x"])]
        flask.session["p"] = Point(7)
        flask.session["dec"] = Decimal("1.5")
        flask.session[5] = "five"
        return "ok"

    @app.get("/load")
    def load() -> str:
        seen.update(flask.session)
        return "ok"

    client = app.test_client()
    assert client.post("/store").status_code == 200
    client.get("/load")
    assert seen["t"] == (1, 2, 3)
    assert (type(seen["b"]), seen["b"]) == (bytes, b"\xff")
    assert (type(seen["m"]), seen["m"]) == (Markup, Markup("<html>"))
    assert (seen["u"], seen["d"]) == (the_uuid, now)
    assert (seen["di"], seen["di2"]) == ({" t": "not-a-tuple"}, {" t__": "not-a-tuple"})
    assert seen["list"] == [(1, [b"x"])]
    assert seen["p"].x == 7
    assert (seen["dec"], seen["5"]) == ("1.5", "five"), "as Flask's own JSON has them"


def test_what_flask_cant_keep_is_the_apps_error_and_keeps_nothing(make: Make) -> None:
    app = make(TESTING=True)

    @app.post("/bad")
    def bad() -> str:
        flask.session["good"] = 1
        flask.session["x"] = object()
        return "ok"

    with pytest.raises(TypeError, match="'x' must be JSON"):
        app.test_client().post("/bad")
    assert count(app) == 0


def test_it_and_current_session_are_one_session(make: Make) -> None:
    app = make()
    client = views(app)

    @app.post("/both")
    def both() -> Response:
        flask.session["a"] = 1
        current_session.data["b"] = 2
        return jsonify(same=current_session.data is flask.session._get_current_object(), data=dict(flask.session))  # type: ignore[attr-defined]

    assert client.post("/both").json == {"same": True, "data": {"a": 1, "b": 2}}
    assert client.get("/get").json == {"a": 1, "b": 2}
    assert count(app) == 1
    assert len(client._cookies) == 1, "one cookie"  # type: ignore[arg-type]


def test_a_change_inside_a_value_needs_modified_as_in_flask(make: Make) -> None:
    app = make()
    client = views(app)

    @app.post("/append/<int:tell>")
    def append(tell: int) -> str:
        flask.session["list"].append(1)
        if tell:
            flask.session.modified = True
        return "ok"

    @app.post("/ours")
    def ours() -> str:
        current_session.data["list"].append(2)
        return "ok"

    client.post("/set", json={"list": []})
    client.post("/append/0")
    assert client.get("/get").json == {"list": []}
    client.post("/append/1")
    assert client.get("/get").json == {"list": [1]}
    client.post("/ours")
    assert client.get("/get").json == {"list": [1, 2]}, "current_session.data notices by itself"


def test_modified_and_accessed_say_what_they_say_in_flask(make: Make) -> None:
    app = make()
    with app.test_client() as client:
        views(app)
        for url, accessed in (("/nothing", False), ("/get", True)):
            client.get(url)
            session = flask.globals.request_ctx._session
            assert session is not None
            assert (session.accessed, session.modified, session.new) == (accessed, False, False)
        client.post("/set", json={"a": 1})
        assert flask.session.modified is True


def test_concurrent_requests_save_only_the_keys_that_they_changed(make: Make) -> None:
    app = make()
    client = views(app)

    @app.post("/race")
    def race() -> str:
        assert dict(flask.session)
        other = app.test_client()
        cookie = client.get_cookie("session")
        assert cookie is not None
        other.set_cookie("session", cookie.value)
        assert other.post("/set", json={"b": 2, "new": 3, "c": {"z": 9}}).status_code == 200
        flask.session["a"] = 2
        return "ok"

    client.post("/set", json={"a": 1, "b": 1, "c": {"z": 1, "a": 2}})
    assert client.post("/race").status_code == 200
    assert client.get("/get").json == {"a": 2, "b": 2, "new": 3, "c": {"z": 9}}


def test_a_key_that_is_removed_is_removed(make: Make) -> None:
    app = make()
    client = views(app)

    @app.post("/swap")
    def swap() -> str:
        flask.session["gone"] = 1
        current_session.require()  # kept now
        del flask.session["gone"]
        del flask.session["a"]
        return "ok"

    @app.post("/made")
    def made_and_taken_back() -> str:
        flask.session.update(gone=1, kept=1)
        current_session.require()
        flask.session.pop("gone")
        return "ok"

    client.post("/set", json={"a": 1, "b": 2})
    client.post("/swap")
    assert client.get("/get").json == {"b": 2}
    fresh = app.test_client()
    fresh.post("/made")
    assert fresh.get("/get").json == {"kept": 1}


def test_a_key_that_other_code_wrote_in_its_own_order_is_not_sent_again(make: Make) -> None:
    app = make()
    client = views(app)

    @app.post("/late")
    def late() -> str:
        flask.session["mine"] = 1
        assert current_session.id is not None
        meanwhile = sessions_of(app).attach(current_session.id)
        meanwhile.data["c"] = "theirs"
        meanwhile.save()
        return "ok"

    client.post("/set", json={"a": 1})
    job = the_session(app)
    job.data["c"] = {"z": 1, "a": 2}
    job.save()
    client.post("/late")
    assert client.get("/get").json == {"a": 1, "mine": 1, "c": "theirs"}


def test_other_code_of_ours_reads_the_same_keys(make: Make) -> None:
    app = make()
    views(app).post("/set", json={"a": {"z": 1, "a": [True]}})
    assert the_session(app).data == {"a": {"z": 1, "a": [True]}}


# laziness


def test_a_thousand_anonymous_requests_leave_nothing(make: Make) -> None:
    app = make()
    client = views(app)

    @app.before_request
    def everybody_is_permanent() -> None:
        flask.session.permanent = True  # a common line: no visitor is worth a record for it

    @app.get("/taken-back")
    def taken_back() -> str:
        flask.session["x"] = 1
        del flask.session["x"]
        return flask.session.get("y", "nothing")

    for number in range(1000):
        answer = client.get(("/get", "/is/x", "/taken-back", "/nothing")[number % 4])
        assert answer.status_code == 200
        assert "Set-Cookie" not in answer.headers
    assert client.post("/clear").status_code == 200
    assert (count(app), sessions_of(app).stats().total_sessions_created) == (0, 0)


def test_a_thousand_made_up_tokens_leave_nothing(make: Make) -> None:
    app = make()
    client = views(app)
    for number in range(1000):
        client.set_cookie("session", f"00{number:018d}.{'A' * 43}")
        assert client.get("/get").json == {}
    assert sessions_of(app).stats().total_sessions_created == 0


def test_a_signed_cookie_of_flasks_own_is_an_anonymous_client(make: Make) -> None:
    plain = Flask("plain")
    plain.secret_key = "x" * 32
    theirs = views(plain)
    theirs.post("/set", json={"a": 1})
    cookie = theirs.get_cookie("session")
    assert cookie is not None
    client = views(make())
    client.set_cookie("session", cookie.value)
    assert client.get("/get").json == {}
    assert client.post("/set", json={"b": 1}).status_code == 200
    assert client.get("/get").json == {"b": 1}


def test_a_request_that_doesnt_look_renews_nothing(make: Make) -> None:
    app = make(**OURS)
    client = views(app)
    client.post("/set", json={"a": 1})
    before = the_session(app).last_activity
    advance(app, 5)
    assert "Vary" not in client.get("/nothing").headers
    assert client.get("/poll").json == {"a": 1}
    assert the_session(app).last_activity == before
    client.get("/is/a")
    assert the_session(app).last_activity > before


def test_clear_empties_and_log_out_ends(make: Make) -> None:
    app = make()
    client = views(app)
    app.add_url_rule("/logout", "logout", lambda: current_session.log_out() or "ok", methods=["POST"])
    client.post("/set", json={"a": 1})
    assert client.post("/clear").status_code == 200
    assert client.get("/get").json == {}
    assert client.get_cookie("session") is not None
    assert count(app) == 1, "it may own files"
    client.post("/set", json={"b": 1})
    assert count(app) == 1
    client.post("/logout")
    assert (count(app), client.get_cookie("session")) == (0, None)


def test_what_a_session_held_goes_with_it_though_the_request_had_read_it(make: Make) -> None:
    app = make()
    client = views(app)

    @app.post("/switch/<user>")
    def switch(user: str) -> Response:
        flask.session["last"] = user
        current_session.log_in(user)
        return jsonify(dict(flask.session))

    @app.post("/leave")
    def leave() -> str:
        flask.session["secret"] = "x"
        current_session.log_out()
        return "ok"

    assert client.post("/switch/ana").json == {"last": "ana"}
    client.post("/set", json={"secret": "ana's"})
    assert client.post("/switch/bob").json == {}, "nothing of ana's is left to bob"
    assert client.get("/get").json == {}
    client.post("/set", json={"secret": "bob's"})
    client.post("/leave")
    assert (client.get("/get").json, count(app)) == ({}, 0)


def test_a_log_out_and_a_farewell_in_one_request_begin_another_session(make: Make) -> None:
    app = make()
    client = views(app)

    @app.post("/bye")
    def bye() -> str:
        current_session.log_out()
        flask.flash("bye")
        return "ok"

    client.post("/set", json={"a": 1})
    before = the_session(app).id
    client.post("/bye")
    assert list(client.get("/get").json or {}) == ["_flashes"]
    assert the_session(app).id != before


# headers


def test_reading_makes_the_answer_private_and_vary(make: Make) -> None:
    client = views(make())
    for url in ("/get", "/is/x"):
        answer = client.get(url)
        assert (answer.headers["Vary"], answer.headers["Cache-Control"]) == ("Cookie", "private")
    answer = client.post("/set", json={"a": 1})
    assert (answer.headers["Vary"], answer.headers["Cache-Control"]) == ("Cookie", "private, no-store")
    plain = client.get("/nothing").headers
    assert "Vary" not in plain
    assert "Cache-Control" not in plain


def test_vary_is_added_to_what_a_view_says(make: Make) -> None:
    app = make()

    @app.get("/varied")
    def varied() -> Response:
        answer = Response(str(flask.session.get("x")))
        answer.vary.update(("Accept-Encoding", "Accept-Language"))
        return answer

    vary = app.test_client().get("/varied").headers.getlist("Vary")
    assert vary == ["Accept-Encoding, Accept-Language, Cookie"]


def test_what_is_changed_in_an_after_request_function_is_kept(make: Make) -> None:
    """Flask's test_session_stored_last."""
    sweep = SessionSweep()
    app = make(sweep)
    client = views(app)

    @app.after_request
    def modify(response: Response) -> Response:
        flask.session["foo"] = 42
        return response

    client.get("/nothing")
    assert client.get("/is/foo").text == "True"


def test_the_test_clients_session_transaction_works(make: Make) -> None:
    app = make()
    client = views(app)
    with client.session_transaction() as session:
        assert len(session) == 0
        session["foo"] = [42]
    with client.session_transaction() as session:
        assert session["foo"] == [42]
    with client:
        assert client.get("/get").json == {"foo": [42]}
        assert flask.session["foo"] == [42]


def test_flash_shows_once(make: Make) -> None:
    app = make()

    @app.post("/flash")
    def flash() -> str:
        flask.flash("hello", "note")
        return "ok"

    @app.get("/flashes")
    def flashes() -> Response:
        return jsonify(flask.get_flashed_messages(with_categories=True))

    client = app.test_client()
    client.post("/flash")
    assert client.get("/flashes").json == [["note", "hello"]]
    assert client.get("/flashes").json == []


# permanent and not

HOUR = 3600.0


def expires(answer: Any) -> datetime | None:
    for part in answer.headers.get("Set-Cookie", "").split("; "):
        if part.startswith("Expires="):
            return parsedate_to_datetime(part.removeprefix("Expires="))
    return None


def lives(app: Flask) -> float:
    return float(the_session(app).expires_in)


def test_a_session_goes_with_the_browser_and_lives_as_ours_do(make: Make) -> None:
    app = make()
    client = views(app)
    answer = client.post("/set", json={"a": 1})
    assert "Expires" not in answer.headers["Set-Cookie"]
    assert "Max-Age" not in answer.headers["Set-Cookie"]
    assert lives(app) == pytest.approx(900, abs=5)
    assert "Set-Cookie" not in client.get("/get").headers


def test_a_permanent_session_lives_for_flasks_lifetime(make: Make) -> None:
    app = make(PERMANENT_SESSION_LIFETIME=timedelta(days=10))
    client = views(app)
    client.post("/set", json={"a": 1})
    answer = client.post("/permanent/1")
    at = expires(answer)
    assert at is not None
    assert abs(at - datetime.now(UTC) - timedelta(days=10)) < timedelta(minutes=1)
    assert lives(app) == pytest.approx(10 * 86400, abs=60)
    for _ in range(5):  # sliding, as in Flask: who comes every week stays
        advance(app, 7 * 86400)
        answer = client.get("/get")
        assert answer.json == {"a": 1, "_permanent": True}
        assert expires(answer) is not None, "with each request that looks at it"
        assert answer.headers["Cache-Control"] == "private, no-store"
    advance(app, 11 * 86400)
    assert client.get("/get").json == {}


def test_one_that_is_made_permanent_from_the_start(make: Make) -> None:
    app = make(PERMANENT_SESSION_LIFETIME=HOUR * 5)
    client = views(app)
    with client.session_transaction() as session:
        session.permanent = True
        session["a"] = 1
    assert lives(app) == pytest.approx(5 * HOUR, abs=60)
    assert client.get("/get").json == {"a": 1, "_permanent": True}


def test_one_that_is_permanent_no_longer(make: Make) -> None:
    app = make()
    client = views(app)
    client.post("/set", json={"a": 1, "_permanent": True})
    assert lives(app) == pytest.approx(31 * 86400, abs=60)
    answer = client.post("/permanent/0")
    assert "Expires" not in answer.headers["Set-Cookie"]
    assert lives(app) == pytest.approx(900, abs=5)
    assert "Set-Cookie" not in client.get("/get").headers


def test_without_refresh_the_time_runs_from_the_last_change(make: Make) -> None:
    app = make(PERMANENT_SESSION_LIFETIME=HOUR, SESSION_REFRESH_EACH_REQUEST=False)
    client = views(app)
    client.post("/set", json={"a": 1, "_permanent": True})
    for _ in range(2):
        advance(app, HOUR / 2)
        answer = client.post("/set", json={"a": 2})  # modified, though nothing changed the second time
        assert expires(answer) is not None
    advance(app, HOUR / 2)
    answer = client.get("/get")
    assert answer.json == {"a": 2, "_permanent": True}
    assert "Set-Cookie" not in answer.headers
    advance(app, HOUR / 2 + 1)
    assert client.get("/get").json == {}, "reading gave it no time"


@pytest.mark.parametrize(
    ("name", "left"), [("SESSIONSWEEP_IDLE_TIMEOUT", 60), ("MAX_SESSION_IDLE_TIME", 60), ("MAX_SESSION_DURATION", 60)]
)
def test_our_own_lifetimes_win_where_somebody_set_them(make: Make, name: str, left: float) -> None:
    app = make(**{name: 60})
    client = views(app)
    client.post("/set", json={"a": 1, "_permanent": True})
    assert lives(app) == pytest.approx(left, abs=5)


def test_a_log_in_keeps_a_permanent_cookie_permanent(make: Make) -> None:
    app = make()
    client = views(app)
    app.add_url_rule("/login", "login", lambda: current_session.log_in("ana") or "ok", methods=["POST"])
    client.post("/set", json={"a": 1, "_permanent": True})
    assert expires(client.post("/login")) is not None
    assert client.get("/get").json == {"a": 1, "_permanent": True}


def test_a_request_that_is_no_activity_gives_a_permanent_cookie_no_time(make: Make) -> None:
    app = make()
    client = views(app)
    client.post("/set", json={"a": 1, "_permanent": True})
    assert "Set-Cookie" not in client.get("/poll").headers
    assert "Set-Cookie" in client.get("/get").headers


# configuration


def test_the_documented_names_are_settings(make: Make, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_SESSION_IDLE_TIME", "120")
    monkeypatch.setenv("MAX_RESOURCES_PER_SESSION", "7")
    app = make(
        MAX_SESSION_DURATION=7200,
        MAX_RESOURCES_PER_SESSION=200,
        MAX_BYTES_PER_SESSION=209715200,
        SESSION_CLEANUP_INTERVAL=30,
        SESSION_STORAGE_PATH=str(tmp_path / "sessions"),
    )
    s = sessions_of(app).settings
    assert (s.max_duration, s.idle_timeout, s.cleanup_interval) == (7200, 120, 30)
    assert (s.max_resources_per_session, s.max_bytes_per_session) == (200, 209715200)
    assert [str(volume) for volume in s.volumes] == [f"sessions={tmp_path / 'sessions'}"]

    @app.post("/file")
    def file() -> str:
        with current_session.new_file(purpose="tts", suffix=".wav") as f:
            f.write(b"sound")
        return str(f.path)

    path = app.test_client().post("/file").text
    assert path.startswith(str(tmp_path / "sessions")), path


def test_our_names_win_over_the_documented(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    monkeypatch.setenv("SESSIONSWEEP_IDLE_TIMEOUT", "5m")
    app = make(MAX_SESSION_IDLE_TIME=60, MAX_SESSION_DURATION=60, SESSIONSWEEP_MAX_DURATION="2h")
    s = sessions_of(app).settings
    assert (s.idle_timeout, s.max_duration) == (300, 7200)


def test_an_impossible_documented_value_is_named(make: Make) -> None:
    from sessionsweep import ConfigurationError

    with pytest.raises(ConfigurationError, match="MAX_RESOURCES_PER_SESSION"):
        make(MAX_RESOURCES_PER_SESSION=5000)
    with pytest.raises(ConfigurationError, match=r"NO_ACTIVITY_PATHS.*'poll'"):
        make(SESSIONSWEEP_NO_ACTIVITY_PATHS=["poll"])


def test_given_settings_take_the_documented_names_too(namespace: str) -> None:
    app = Flask("app")
    app.config["MAX_SESSION_IDLE_TIME"] = 60
    SessionSweep(app, Settings(redis_url="memory://", namespace=namespace, max_duration=600))
    s = sessions_of(app).settings
    assert (s.idle_timeout, s.max_duration) == (60, 600)
    sessions_of(app).close()


def test_an_interface_that_was_replaced_is_said(make: Make) -> None:
    from flask.sessions import SecureCookieSessionInterface

    from sessionsweep import ConfigurationError

    app = make()
    app.session_interface = SecureCookieSessionInterface()
    with app.test_request_context(), pytest.raises(ConfigurationError, match="session_interface"):
        bool(current_session)


def test_a_session_that_nobody_looked_at_shows_nothing(make: Make) -> None:
    app = make()
    client = views(app)
    client.post("/set", json={"a": 1})
    before = sessions_of(app).store.execute(op.PeekSession(the_session(app).id)).record
    cookie = client.get_cookie("session")
    assert cookie is not None
    with app.test_request_context(headers={"Cookie": f"session={cookie.value}"}):
        assert "not read" in repr(flask.session._get_current_object())  # type: ignore[attr-defined]
    assert sessions_of(app).store.execute(op.PeekSession(the_session(app).id)).record == before
