"""Flask's round trips as the server counts them, and two nodes that take turns with many clients."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import flask
import pytest
import redis
from flask import Flask, Response, jsonify
from flask.testing import FlaskClient

from sessionsweep import Sessions, Settings
from sessionsweep.integrations.flask import SessionSweep, current_session
from support.nodes import KEY

CLIENTS = int(os.environ.get("FLASK_CLIENTS", "100"))
ROUNDS = int(os.environ.get("FLASK_ROUNDS", "20"))  # requests of each; `make scale` runs 100 of 100


@pytest.fixture
def make(redis_url: str, namespace: str) -> Iterator[Callable[..., Flask]]:
    """Nodes of one deployment, without a clock of the test's, which would be asked beside the session."""
    made: list[Sessions] = []

    def one(node: str, url: str = redis_url) -> Flask:
        app = Flask(node)
        SessionSweep(app, Settings(redis_url=url, namespace=namespace, secret_key=KEY, node=node))
        made.append(app.extensions["sessionsweep"].sessions)

        @app.post("/set")
        def set_() -> str:
            flask.session.update(flask.request.get_json())
            return "ok"

        @app.get("/get")
        def get() -> Response:
            return jsonify(dict(flask.session))

        @app.get("/nothing")
        def nothing() -> str:
            return "ok"

        @app.post("/login/<user>")
        def log_in(user: str) -> str:
            current_session.log_in(user)
            return str(current_session.id)

        @app.post("/permanent")
        def permanent() -> str:
            flask.session.permanent = True
            return "ok"

        return app

    yield one
    for sessions in made:
        sessions.close()


class Monitor:
    """What the server is sent, by MONITOR; commands that a script runs are not counted."""

    def __init__(self, url: str) -> None:
        self._link = redis.Redis.from_url(url)
        self._mark = redis.Redis.from_url(url)
        self._mark.ping()  # connects
        self._monitor = self._link.monitor()
        self._monitor.__enter__()
        self._marks = 0

    def of(self, work: Callable[[], Any]) -> list[str]:
        """The commands that clients send while `work` runs."""
        work()
        self._marks += 1
        mark = f"mark-{self._marks}"
        self._mark.echo(mark)
        sent = []
        for seen in self._monitor.listen():
            command = str(seen["command"])
            if mark in command:
                return sent
            if seen["client_type"] != "lua":
                sent.append(command.split()[0].upper())
        return sent

    def close(self) -> None:
        self._monitor.__exit__(None, None, None)
        self._link.close()
        self._mark.close()


def test_a_request_costs_no_more_round_trips_than_promised(
    make: Callable[..., Flask], own_server: Callable[..., Any]
) -> None:
    url = own_server().url
    app = make("a", url)
    client, stranger = app.test_client(), app.test_client()
    client.post("/set", json={"a": 1})  # connects, and loads the scripts
    client.get("/get")
    client.post("/set", json={"a": 2})
    stranger.set_cookie("session", "no token at all")
    with closing(Monitor(url)) as monitor:
        assert monitor.of(lambda: app.test_client().get("/get")) == [], "nothing without a token"
        assert monitor.of(lambda: app.test_client().get("/nothing")) == []
        assert monitor.of(lambda: stranger.get("/get")) == [], "nor for what can be none"
        assert monitor.of(lambda: client.get("/nothing")) == []
        assert monitor.of(lambda: client.get("/get")) == ["EVALSHA"], "one, unchanged"
        assert monitor.of(lambda: client.post("/set", json={"a": 2})) == ["EVALSHA"], "set to what it was"
        assert monitor.of(lambda: client.post("/set", json={"a": 3, "b": 1})) == ["EVALSHA"] * 2, "two, changed"
        monitor.of(lambda: client.post("/permanent"))
        assert monitor.of(lambda: client.get("/get")) == ["EVALSHA"], "a permanent session costs no more"
        assert monitor.of(lambda: client.post("/permanent")) == ["EVALSHA"]


def test_two_nodes_that_take_turns_mix_up_nobody(make: Callable[..., Flask]) -> None:
    nodes = [make("a"), make("b")]
    lock = threading.Lock()
    owners: dict[str, int] = {}

    def client_of(number: int) -> None:
        chance = random.Random(number)
        browsers = [node.test_client() for node in nodes]
        expected: dict[str, Any] = {}
        session_id = None
        for step in range(ROUNDS):
            browser, other = browsers[step % 2], browsers[(step + 1) % 2]
            match chance.randrange(4):
                case 0 if step:
                    found = browser.post(f"/login/user{number}").text
                    assert session_id in (None, found), "a log-in keeps the session"
                    session_id = found
                    with lock:
                        assert owners.setdefault(found, number) == number, "two clients in one session"
                case 1:
                    change = {f"k{chance.randrange(5)}": [number, step]}
                    assert browser.post("/set", json=change).status_code == 200
                    expected.update(change)
                case _:
                    assert browser.get("/get").json == expected
            _hand_over(browser, other)
        assert browsers[0].get("/get").json == expected

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(client_of, number) for number in range(CLIENTS)]:
            done.result()
    assert len(owners) > CLIENTS / 2


def _hand_over(browser: FlaskClient, other: FlaskClient) -> None:
    cookie = browser.get_cookie("session")
    if cookie is not None:
        other.set_cookie("session", cookie.value)


def test_the_other_nodes_key_is_kept_when_both_save_at_once(make: Callable[..., Flask]) -> None:
    nodes = [make("a"), make("b")]
    browsers = [node.test_client() for node in nodes]
    browsers[0].post("/set", json={"start": 1})
    _hand_over(*browsers)
    for turn in range(20):
        start = threading.Barrier(2)

        def save(which: int, start: threading.Barrier = start, turn: int = turn) -> None:
            start.wait(30)
            assert browsers[which].post("/set", json={f"{which}.{turn}": turn}).status_code == 200

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(save, (0, 1)))
    assert len(browsers[0].get("/get").json or {}) == 41
