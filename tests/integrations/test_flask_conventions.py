"""What Flask's own tests and Flask-Session's pages ask of `flask.session`, where no other test does; both stores."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import flask
import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from flask_apps import Apps, Make, sessions_of

from sessionsweep.integrations.flask import current_session


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest, namespace: str) -> Iterator[Make]:
    """Apps on either store."""
    apps = Apps("memory://" if request.param == "memory" else request.getfixturevalue("redis_url"), namespace)
    yield apps
    apps.close()


def site(app: Flask) -> FlaskClient:
    """The addresses of Flask-Session's own tests, and a counter."""

    @app.get("/")
    def hello() -> str:
        return "hello"

    @app.post("/set/<value>")
    def set_(value: str) -> str:
        flask.session["value"] = value
        return "set"

    @app.post("/delete")
    def delete() -> str:
        del flask.session["value"]
        return "deleted"

    @app.get("/get")
    def get() -> str:
        return str(flask.session.get("value", "nothing"))

    @app.post("/bump/<int:permanent>")
    def bump(permanent: int) -> str:
        flask.session["count"] = flask.session.get("count", 0) + 1
        flask.session.permanent = bool(permanent)
        return str(flask.session["count"])

    return app.test_client()


def test_a_value_is_set_modified_and_deleted(make: Make) -> None:
    """Flask-Session's test_session."""
    client = site(make())
    assert client.get("/get").text == "nothing"
    assert "Vary" not in client.get("/").headers
    for value in ("42", "43"):
        assert client.post(f"/set/{value}").text == "set"
        answer = client.get("/get")
        assert (answer.text, answer.headers["Vary"]) == (value, "Cookie")
    client.post("/delete")
    assert client.get("/get").text == "nothing"


def test_no_secret_key_is_needed(make: Make) -> None:
    """Flask's test_missing_session refuses such a session; this one's key is SESSIONSWEEP_SECRET_KEY."""
    app = make()
    assert app.secret_key is None
    assert site(app).post("/set/42").status_code == 200


@pytest.mark.parametrize("permanent", [True, False])
@pytest.mark.parametrize("refresh", [True, False])
def test_only_a_permanent_session_refreshes_its_cookie_when_it_is_read(
    make: Make, permanent: bool, refresh: bool
) -> None:
    """Flask's test_session_cookie_setting."""
    client = site(make(SESSION_REFRESH_EACH_REQUEST=refresh))
    assert [client.post(f"/bump/{int(permanent)}").text for _ in range(3)] == ["1", "2", "3"]
    assert ("Set-Cookie" in client.get("/get").headers) is (permanent and refresh)


def test_a_permanent_session_that_nobody_looks_at_is_not_refreshed(make: Make) -> None:
    """Flask's test_session_refresh_vary sends the cookie with any page: there that costs no question of a server."""
    client = site(make(PERMANENT_SESSION_LIFETIME=timedelta(days=1)))
    client.post("/bump/1")
    answer = client.get("/")
    assert not {"Set-Cookie", "Vary", "Cache-Control"} & set(answer.headers.keys())


@pytest.mark.parametrize(
    "use",
    [
        lambda session: session.get("x"),
        lambda session: session["x"],
        lambda session: session.setdefault("x", 1),
        lambda session: session.clear(),
        lambda session: "x" in session,
        lambda session: list(session),
        lambda session: len(session),
        lambda session: session == {},
        lambda session: session | {},
        lambda session: session.pop("x", None),
        lambda session: session.update(x=2),
    ],
)
def test_every_use_varies_once(make: Make, use: Any) -> None:
    """Flask's test_session_vary_cookie."""
    app = make()
    client = site(app)

    @app.post("/put")
    def put() -> str:
        flask.session["x"] = 1
        return "put"

    @app.get("/use")
    def used() -> Response:
        answer = Response("used")
        answer.vary.add("Cookie")
        use(flask.session)
        return answer

    client.post("/put")
    assert client.get("/use").headers.getlist("Vary") == ["Cookie"]


def test_a_partitioned_cookie_and_one_of_a_parent_domain_are_removed_as_they_were_set(make: Make) -> None:
    """Flask's test_session_using_session_settings; its emptied session removes the cookie, ours when it ends."""
    app = make(
        SESSION_COOKIE_DOMAIN="example.org",
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_PARTITIONED=True,
        SESSION_COOKIE_PATH="/shop",
    )
    client = site(app)
    app.add_url_rule("/logout", "logout", lambda: current_session.log_out() or "ok", methods=["POST"])
    url = "https://www.example.org/shop/"
    attributes = {"Domain=example.org", "Path=/shop", "Secure", "Partitioned", "HttpOnly", "SameSite=Lax"}
    made = client.post("/set/42", base_url=url).headers["Set-Cookie"]
    assert set(made.split("; ")[1:]) == attributes
    assert "Set-Cookie" not in client.post("/delete", base_url=url).headers, "emptied: it may own files"
    gone = client.post("/logout", base_url=url).headers["Set-Cookie"]
    assert attributes < set(gone.split("; ")[1:])
    assert gone.startswith("session=;")


def test_a_same_site_that_is_none_of_the_words_is_said(make: Make) -> None:
    """Flask's test_session_using_samesite_attribute."""
    client = site(make(SESSION_COOKIE_SAMESITE="invalid", TESTING=True))
    with pytest.raises(ValueError, match="SameSite"):
        client.post("/set/42")


def test_templates_show_it(make: Make) -> None:
    app = make()
    client = site(app)
    app.add_url_rule("/page", view_func=lambda: flask.render_template_string("value: {{ session.value }}"))
    client.post("/set/42")
    assert client.get("/page").text == "value: 42"


def test_asynchronous_views_see_it(make: Make) -> None:
    app = make()
    client = site(app)

    @app.post("/later/<value>")
    async def later(value: str) -> str:
        before = str(flask.session.get("value"))
        flask.session["value"] = value
        return before

    client.post("/set/42")
    assert client.post("/later/43").text == "42"
    assert client.get("/get").text == "43"


def test_it_regenerates_its_token_on_demand(make: Make) -> None:
    """Flask-Session's `session_interface.regenerate(session)` is `current_session.rotate()`."""
    app = make()
    client = site(app)
    app.add_url_rule("/rotate", "rotate", lambda: current_session.rotate() or "ok", methods=["POST"])
    client.post("/set/42")
    before = client.get_cookie("session")
    client.post("/rotate")
    after = client.get_cookie("session")
    assert before is not None
    assert after is not None
    assert before.value != after.value
    assert client.get("/get").text == "42"
    stranger = app.test_client()
    stranger.set_cookie("session", before.value)
    assert stranger.get("/get").text == "nothing"
    assert sessions_of(app).stats().total_sessions_created == 1
