"""P1: a request's one call, `Sessions.open` (verify and touch), against a raw GET and against others' load and save."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import redis

from benchmarks.deployment import Deployment
from benchmarks.goals import Goal, Row, Scale, per_second
from benchmarks.measure import Timings, interleaved
from sessionsweep import Client

CLIENT = Client("203.0.113.7", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
DATA = {"cart": [1, 2, 3], "lang": "en"}
MANY = 1000  # sessions, so that no side profits from one warm record


def sync_open(scale: Scale) -> list[Row]:
    """One connection, one thread, one call after the other."""
    with Deployment() as d:
        bare = [d.sessions.create()[1] for _ in range(MANY)]
        full = [d.sessions.create(CLIENT, user="ana", data=DATA)[1] for _ in range(MANY)]
        size = {name: d.client.strlen(d.store.keys.session(tokens[0][:20])) for name, tokens in
                (("bare", bare), ("full", full))}  # fmt: skip
        get, names = d.client.get, {}
        for name, length in size.items():
            names[name] = [f"raw:{name}:{i:032}" for i in range(MANY)]
            d.client.mset(dict.fromkeys(names[name], b"x" * int(length)))
        opened, ours_bare, ours_full = d.sessions.open, itertools.cycle(bare), itertools.cycle(full)
        get_bare, get_full = itertools.cycle(names["bare"]), itertools.cycle(names["full"])
        sides: dict[str, Callable[[], object]] = {
            "open": lambda: opened(next(ours_bare)),
            "get": lambda: get(next(get_bare)),
            "open full": lambda: opened(next(ours_full), CLIENT),
            "get full": lambda: get(next(get_full)),
            "flask": _flask_session(d.server.url),
            "django": _django(d.server.url),
        }
        t = interleaved(sides, rounds=scale.rounds * 2, calls=200)
    return [
        _row("open, header only, against GET of as many bytes", t, "open", "get", Goal(least=0.75)),
        _row("… with client, user and data", t, "open full", "get full", Goal()),
        _row("… against Flask-Session's load + save", t, "open full", "flask", Goal(least=3)),
        _row("… against Django's cache session, load + save", t, "open full", "django", Goal(least=7)),
    ]


def _row(what: str, timings: Timings, side: str, other: str, goal: Goal) -> Row:
    ours, theirs = per_second(timings.rate(side)), per_second(timings.rate(other))
    return Row("P1", what, ours, theirs, timings.ratio(side, other), goal)


def _flask_session(url: str) -> Callable[[], object]:
    """Flask-Session's own interface over redis-py: load by the cookie, change a value, save."""
    from flask import Flask
    from flask_session import Session

    app = Flask("benchmark")
    app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis.Redis.from_url(url), SECRET_KEY="x")
    Session(app)
    interface = app.session_interface
    cookie = app.config["SESSION_COOKIE_NAME"]
    sids = [_new_flask_session(app) for _ in range(MANY)]
    requests = [app.request_class({**_environ(app), "HTTP_COOKIE": f"{cookie}={sid}"}) for sid in sids]
    app.app_context().push()
    turns = itertools.cycle(requests)
    counter = itertools.count()

    def load_and_save() -> None:
        session = interface.open_session(app, next(turns))
        assert session is not None
        session["seen"] = next(counter)
        interface.save_session(app, session, app.response_class())

    return load_and_save


def _environ(app: object) -> dict[str, object]:
    from werkzeug.test import EnvironBuilder

    return dict(EnvironBuilder("/").get_environ())


def _new_flask_session(app: object) -> str:
    from flask import Flask

    assert isinstance(app, Flask)
    with app.app_context():
        request = app.request_class(_environ(app))
        session = app.session_interface.open_session(app, request)
        assert session is not None
        session.update(DATA, user="ana")
        app.session_interface.save_session(app, session, app.response_class())
        return str(vars(session)["sid"])


def _django(url: str) -> Callable[[], object]:
    """Django's cached session over its own Redis cache: load, change a value, save."""
    from django.conf import settings

    if not settings.configured:
        settings.configure(
            CACHES={"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": url}},
            SECRET_KEY="benchmark",
        )
    from django.contrib.sessions.backends.cache import SessionStore

    turns = itertools.cycle(list(_new_django_sessions(SessionStore)))
    counter = itertools.count()

    def load_and_save() -> None:
        session = SessionStore(next(turns))
        session["seen"] = next(counter)
        session.save()

    return load_and_save


def _new_django_sessions(store: type) -> Iterator[str]:
    for _ in range(MANY):
        session = store()
        session.update({**DATA, "user": "ana"})
        session.save()
        yield session.session_key
