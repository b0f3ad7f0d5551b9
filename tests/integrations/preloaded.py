"""An app that has spoken to the store before its server forks: the worst that `--preload` can meet."""

from __future__ import annotations

from flask import Flask, Response, jsonify

from sessionsweep import Sessions
from sessionsweep.integrations.flask import SessionSweep, current_session

app = Flask(__name__)
sessions = Sessions.from_env()
SessionSweep(app, sessions=sessions)
before_the_fork, _ = sessions.create()  # this leaves an idle connection in the parent


@app.post("/count")
def count() -> Response:
    current_session.data["count"] = current_session.data.get("count", 0) + 1
    return jsonify(id=current_session.require().id, count=current_session.data["count"])
