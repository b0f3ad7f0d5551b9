"""P3: how many commands a request sends to the server, counted by the server's own MONITOR."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from importlib.util import find_spec

import redis

from benchmarks.deployment import Deployment
from benchmarks.goals import Goal, Row, Scale

Request = Callable[[bool, bool], None]  # (with the token, changes data) → one request


def round_trips(_: Scale) -> list[Row]:
    """The library itself, then each framework's integration, through the framework's own test client."""
    rows = list[Row]()
    with Deployment() as d:
        d.client.ping()
        for name, make in FRAMEWORKS.items():
            if name != "library" and find_spec(f"sessionsweep.integrations.{name}") is None:
                continue
            request = make(d)
            request(True, True)  # connections and scripts are there
            request(True, False)
            counts = [_count(d, lambda: request(*kind)) for kind in ((False, False), (True, False), (True, True))]  # noqa: B023
            for what, count, goal in zip(
                ("no token", "data unchanged", "data changed"), counts, (0, 1, 2), strict=True
            ):
                rows.append(Row("P3", f"round trips, {name}: {what}", str(count), "", count, Goal(goal, goal)))
    return rows


def _count(d: Deployment, request: Callable[[], None]) -> int:
    """Commands that arrived from clients while `request` ran; what a script calls inside is none."""
    sentinel = secrets.token_hex(8)
    watcher = redis.Redis.from_url(d.server.url)
    with watcher.monitor() as monitor:  # type: ignore[no-untyped-call]
        request()
        d.client.echo(sentinel)
        count = 0
        while True:
            seen = monitor.next_command()
            if sentinel in seen["command"]:
                return count
            count += seen["client_type"] != "lua"


def _flask(d: Deployment) -> Request:
    from flask import Flask

    from sessionsweep.integrations.flask import SessionSweep, current_session

    app = Flask("benchmark")
    SessionSweep(app, d.settings)

    @app.get("/look")
    def look() -> str:
        return str(len(current_session.data)) if current_session else ""

    @app.get("/change")
    def change() -> str:
        current_session.data["seen"] = secrets.token_hex(4)
        return ""

    client, stranger = app.test_client(), app.test_client()

    def request(known: bool, changes: bool) -> None:
        answer = (client if known else stranger).get("/change" if changes else "/look")
        assert answer.status_code == 200, answer.text

    return request


def _sync(d: Deployment) -> Request:
    token = d.sessions.create(data={"lang": "en"})[1]

    def request(known: bool, changes: bool) -> None:
        if not known:
            return
        session = d.sessions.open(token)
        if changes:
            session.data["seen"] = secrets.token_hex(4)
        session.save()

    return request


FRAMEWORKS: dict[str, Callable[[Deployment], Request]] = {"library": _sync, "flask": _flask}
