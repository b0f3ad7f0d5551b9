"""Coming from Flask-Session and from Flask's signed cookie: nobody is logged out, nothing is made by strangers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import flask
import pytest
import redis
from flask import Flask, Response, jsonify
from flask.sessions import SecureCookieSessionInterface, SessionInterface
from flask.testing import FlaskClient
from flask_apps import Apps, Make, advance, sessions_of
from flask_session.redis import RedisSessionInterface

from sessionsweep.errors import ConfigurationError
from sessionsweep.integrations.flask import SessionSweep, current_session
from sessionsweep.integrations.flask.migration import canonical
from sessionsweep.integrations.flask.way_back import BackTo
from sessionsweep.integrations.migration import GRACE, is_old
from support.nodes import KEY

COOKIE = "session"
SECRET = "the old app's key"
DAY = 86_400
MakeOld = Callable[[Flask], SessionInterface]


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest, namespace: str) -> Iterator[Make]:
    apps = Apps("memory://" if request.param == "memory" else request.getfixturevalue("redis_url"), namespace)
    yield apps
    apps.close()


class OldServer:
    """Where Flask-Session keeps its records."""

    def __init__(self, url: str, prefix: str) -> None:
        self.client = redis.Redis.from_url(url)
        self.prefix = prefix

    def interface(self, app: Flask) -> SessionInterface:
        return RedisSessionInterface(app, self.client, key_prefix=self.prefix)

    def count(self) -> int:
        return len(list(self.client.scan_iter(f"{self.prefix}*")))


@pytest.fixture
def old_server(redis_url: str, namespace: str) -> Iterator[OldServer]:
    made = OldServer(redis_url, f"{namespace}old:")
    yield made
    made.client.close()


@pytest.fixture(params=["flask-session", "signed"])
def interface(request: pytest.FixtureRequest, old_server: OldServer) -> MakeOld:
    """Makes the old interface of an app."""
    return old_server.interface if request.param == "flask-session" else lambda app: SecureCookieSessionInterface()


def views(app: Flask) -> Flask:
    @app.post("/set")
    def set_() -> str:
        flask.session.update(flask.request.get_json())
        return "ok"

    @app.post("/permanent")
    def permanent() -> str:
        flask.session["user"] = "ana"
        flask.session.permanent = True
        return "ok"

    @app.get("/get")
    def get() -> Response:
        return jsonify({key: value for key, value in flask.session.items() if key != "_permanent"})

    @app.get("/who")
    def who() -> Response:
        return jsonify(current_session.user)

    @app.post("/login")
    def log_in() -> str:
        current_session.log_in("ana")
        return "ok"

    @app.post("/logout")
    def log_out() -> str:
        current_session.log_out()
        return "ok"

    @app.get("/nothing")
    def nothing() -> str:
        return "ok"

    @app.get("/time-left")
    def time_left() -> Response:
        return jsonify(current_session.time_left())

    return app


def old_app(interface: MakeOld) -> Flask:
    app = views(Flask("app"))
    app.secret_key = SECRET
    app.session_interface = interface(app)
    return app


def new_app(make: Make, interface: MakeOld, migrate_user: Any = None, **config: Any) -> Flask:
    bare = Flask("app")
    bare.secret_key = SECRET
    return views(
        make(SessionSweep(migrate_from=interface(bare), migrate_user=migrate_user), SECRET_KEY=SECRET, **config)
    )


def cookie(client: FlaskClient) -> str:
    found = client.get_cookie(COOKIE)
    assert found is not None
    return found.value


def brings(app: Flask, value: str) -> FlaskClient:
    client = app.test_client()
    client.set_cookie(COOKIE, value)
    return client


def logged_in(interface: MakeOld, values: dict[str, Any] | None = None) -> str:
    """A cookie of the old app's."""
    client = old_app(interface).test_client()
    assert client.post("/set", json=values or {"user": "ana"}).status_code == 200
    return cookie(client)


def count(app: Flask) -> int:
    return sessions_of(app).stats().total_sessions_created


def test_what_the_old_interface_holds_becomes_a_session_of_ours(make: Make, interface: MakeOld) -> None:
    value = logged_in(interface, {"user": "ana", "cart": [1, {"a": None}]})
    app = new_app(make, interface)
    client = brings(app, value)
    answer = client.get("/get")
    assert answer.json == {"user": "ana", "cart": [1, {"a": None}]}
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert not is_old(cookie(client)), "a token of ours"
    for _ in range(2):
        assert client.get("/get").json == {"user": "ana", "cart": [1, {"a": None}]}
    assert count(app) == 1


def test_flasks_own_types_come_along(make: Make) -> None:
    interface: MakeOld = lambda app: SecureCookieSessionInterface()  # noqa: E731
    old = old_app(interface)
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    seen: dict[str, Any] = {}

    @old.post("/types")
    def types() -> str:
        flask.session.update(at=now, pair=(1, 2), raw=b"x")
        return "ok"

    client = old.test_client()
    client.post("/types")
    app = new_app(make, interface)

    @app.get("/types")
    def read() -> str:
        seen.update(flask.session)
        return "ok"

    brings(app, cookie(client)).get("/types")
    assert seen == {"at": now, "pair": (1, 2), "raw": b"x"}


def test_the_old_record_goes(make: Make, old_server: OldServer) -> None:
    value = logged_in(old_server.interface)
    assert old_server.count() == 1
    app = new_app(make, old_server.interface)
    assert brings(app, value).get("/get").json == {"user": "ana"}
    assert old_server.count() == 0


def test_requests_of_one_page_share_one_session(make: Make, interface: MakeOld) -> None:
    """Also the one whose answer was lost: its client comes again with the old cookie."""
    value = logged_in(interface)
    app = new_app(make, interface)
    together = threading.Barrier(8)

    def ask(at: int) -> tuple[Any, str]:
        client = brings(app, value)
        together.wait()
        return client.get("/get").json, cookie(client)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert [data for data, _ in answers] == [{"user": "ana"}] * 8
    assert len({token for _, token in answers}) == 1, "one session under one token"
    assert count(app) == 1
    late = brings(app, value)
    late.post("/set", json={"late": 1})
    assert brings(app, answers[0][1]).get("/get").json == {"user": "ana", "late": 1}


def test_after_a_while_the_old_cookie_leads_nowhere(make: Make, interface: MakeOld) -> None:
    value = logged_in(interface)
    app = new_app(make, interface, SESSIONSWEEP_IDLE_TIMEOUT="1d", SESSIONSWEEP_MAX_DURATION="2d")
    client = brings(app, value)
    client.get("/get")
    advance(app, GRACE / 1000 - 1)
    assert brings(app, value).get("/get").json == {"user": "ana"}
    advance(app, 2)
    assert brings(app, value).get("/get").json == {}
    assert client.get("/get").json == {"user": "ana"}
    assert count(app) == 1, "imported once"


def test_after_a_log_in_the_old_cookie_leads_nowhere(make: Make, interface: MakeOld) -> None:
    """Somebody who planted the old cookie in a browser doesn't come in with it."""
    value = logged_in(interface, {"cart": 1})
    app = new_app(make, interface)
    client = brings(app, value)
    client.get("/get")
    client.post("/login")
    assert client.get("/get").json == {"cart": 1}
    assert brings(app, value).get("/get").json == {}
    assert brings(app, value).get("/who").json is None


def test_after_a_log_out_a_record_is_not_taken_over_again(make: Make, old_server: OldServer) -> None:
    value = logged_in(old_server.interface)
    app = new_app(make, old_server.interface)
    brings(app, value).post("/logout")
    assert brings(app, value).get("/get").json == {}
    assert old_server.count() == 0


def test_whose_it_is(make: Make, interface: MakeOld) -> None:
    value = logged_in(interface)
    app = new_app(make, interface, lambda data: data.get("user"), SESSIONSWEEP_MAX_SESSIONS_PER_USER=1)
    for _ in range(2):
        assert brings(app, value).get("/who").json == "ana"
    assert [one.user for one in sessions_of(app).list(user="ana")[0]] == ["ana"]


@pytest.mark.parametrize("user", [5, "a\nb"])
def test_who_cannot_be_a_user_is_said_and_nothing_is_taken_over(make: Make, interface: MakeOld, user: Any) -> None:
    """Kept as a number, `end_user("5")` would miss it."""
    value = logged_in(interface, {"user": user})
    app = new_app(make, interface, lambda data: data["user"], TESTING=True)
    with pytest.raises((TypeError, ValueError), match=r"text|control"):
        brings(app, value).get("/who")
    assert count(app) == 0
    assert brings(old_app(interface), value).get("/get").json == {"user": user}, "nor lost"


def test_a_name_that_is_blank_is_nobodys(make: Make, interface: MakeOld) -> None:
    app = new_app(make, interface, lambda data: data["user"])
    assert brings(app, logged_in(interface, {"user": ""})).get("/who").json is None


def test_a_permanent_session_lasts_as_long_as_before(make: Make, interface: MakeOld) -> None:
    old = old_app(interface).test_client()
    old.post("/permanent")
    app = new_app(make, interface)
    app.permanent_session_lifetime = timedelta(days=20)
    client = brings(app, cookie(old))
    assert client.get("/time-left").json == pytest.approx(20 * DAY, abs=5), "even where the first look renews nothing"
    kept = client.get_cookie(COOKIE)
    assert kept is not None
    assert kept.expires is not None
    advance(app, 19 * DAY)
    assert client.get("/get").json == {"user": "ana"}


def test_made_up_cookies_make_nothing_anywhere(make: Make, old_server: OldServer) -> None:
    app = new_app(make, old_server.interface)
    for value in ("x" * 43, "made.up", "ünicode", "a" * 20 + "." + "b" * 43, "." * 3000):
        client = brings(app, value)
        answer = client.get("/get")
        assert answer.json == {}
        assert "Set-Cookie" not in answer.headers
    assert (count(app), old_server.count()) == (0, 0)


def test_a_signed_cookie_that_somebody_changed_is_nobodys(make: Make) -> None:
    interface: MakeOld = lambda app: SecureCookieSessionInterface()  # noqa: E731
    value = logged_in(interface)
    app = new_app(make, interface)
    forged = value[:-1] + ("A" if value[-1] != "A" else "B")
    assert brings(app, value[1:]).get("/get").json == {}
    assert brings(app, forged[:-3]).get("/get").json == {}
    assert count(app) == 0


def test_a_request_that_does_not_look_takes_nothing_over(make: Make, interface: MakeOld) -> None:
    value = logged_in(interface)
    app = new_app(make, interface)
    client = brings(app, value)
    assert "Set-Cookie" not in client.get("/nothing").headers
    assert count(app) == 0


def test_the_new_token_is_made_with_a_key_that_may_be_replaced(make: Make) -> None:
    """Nobody who has the old cookie can compute it; after a change of keys its session is still found."""
    interface: MakeOld = lambda app: SecureCookieSessionInterface()  # noqa: E731
    value = logged_in(interface)
    first = brings(new_app(make, interface), value)
    first.get("/get")
    replaced = brings(new_app(make, interface, SESSIONSWEEP_SECRET_KEY=f"{'n' * 40},{KEY}"), value)
    assert replaced.get("/get").json == {"user": "ana"}
    assert cookie(replaced) == cookie(first)
    other = brings(new_app(make, interface, SESSIONSWEEP_SECRET_KEY="o" * 40), value)
    other.get("/get")
    assert cookie(other) not in (value, cookie(first))


def test_what_looks_when_the_headers_are_sent_takes_nothing_over(make: Make, old_server: OldServer) -> None:
    value = logged_in(old_server.interface)
    app = new_app(make, old_server.interface)

    @app.get("/late")
    def late() -> Response:
        return Response(flask.stream_with_context(str(flask.session.get("user")) for _ in range(1)))

    client = brings(app, value)
    assert client.get("/late").text == "None"
    assert client.get("/get").json == {"user": "ana"}, "a later request does"
    assert count(app) == 1
    assert old_server.count() == 0


def test_a_lost_secret_key_is_said(make: Make) -> None:
    interface: MakeOld = lambda app: SecureCookieSessionInterface()  # noqa: E731
    value = logged_in(interface)
    app = new_app(make, interface)
    app.secret_key = None
    app.testing = True
    with pytest.raises(ConfigurationError, match="SECRET_KEY"):
        brings(app, value).get("/get")


def test_the_way_back(make: Make, interface: MakeOld) -> None:
    app = new_app(make, interface)
    client = app.test_client()
    client.post("/set", json={"user": "ana", "cart": [1]})
    before = count(app)

    back = old_app(lambda bare: BackTo(interface(bare), sessions_of(app)))
    returned = brings(back, cookie(client))
    assert returned.get("/get").json == {"user": "ana", "cart": [1]}
    returned.post("/set", json={"more": 2})
    assert is_old(cookie(returned)), "the old interface's own cookie"
    assert brings(back, cookie(client)).get("/get").json == {"user": "ana", "cart": [1]}, "another request of that page"

    alone = brings(old_app(interface), cookie(returned))
    assert alone.get("/get").json == {"user": "ana", "cart": [1], "more": 2}, "without us"
    fresh = back.test_client()
    fresh.post("/set", json={"user": "ben"})
    assert fresh.get("/get").json == {"user": "ben"}
    assert brings(back, "a" * 20 + "." + "b" * 43).get("/get").json == {}
    assert count(app) == before


def test_one_signed_cookie_is_one_session_however_its_signature_is_spelt(make: Make) -> None:
    """itsdangerous ignores what isn't base 64 in a signature: each spelling would be another session, without end."""
    interface: MakeOld = lambda app: SecureCookieSessionInterface()  # noqa: E731
    value = logged_in(interface)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare = [value[:-1] + other for other in alphabet]  # of the last character two bits are part of the signature
    junk = [value[:-3] + one + value[-3:] for one in ("!", "!!", "~", ":", "%", "=")] + [value + "=", value + "=="]
    old = old_app(interface)
    spelt = [value, *(other for other in (*spare, *junk) if brings(old, other).get("/get").json == {"user": "ana"})]
    assert len(spelt) >= 8, "the old interface took them for the same"
    app = new_app(make, interface)
    answers = {brings(app, other).get("/get").text for other in spelt}
    assert len(answers) == 1
    assert "ana" in answers.pop()
    assert count(app) == 1


def test_who_knows_what_was_signed_finds_no_session_without_the_signature(make: Make) -> None:
    interface: MakeOld = lambda app: SecureCookieSessionInterface()  # noqa: E731
    value = logged_in(interface)
    app = new_app(make, interface)
    assert brings(app, value).get("/get").json == {"user": "ana"}
    signed = value.rpartition(".")[0]
    for forged in (signed, f"{signed}.", f"{signed}.{'A' * 27}", f"{signed}.!"):
        assert brings(app, forged).get("/get").json == {}, forged


def test_what_is_no_signature_stays_as_it_is() -> None:
    for other in ("", "0b1e", "session.12", "a.b.c", "a.\xff", "a." + "b" * 21):
        assert canonical(other) == other
