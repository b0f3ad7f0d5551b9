"""The routes of examples/voice_notes that visitors use, written on Flask-Session: the other side of the load test.

What an app does that keeps its files itself: a folder for each session on the node's own disk, their names in the
session. Nobody deletes the files of a session that ended.
"""

from __future__ import annotations

import io
import json
import os
import secrets
from pathlib import Path
from typing import Any, cast

import redis
import waitress
from flask import Flask, Response, abort, jsonify, redirect, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_session import Session
from werkzeug.wsgi import wrap_file

from sessionsweep_workers.devstack.web import THREADS


def create_app(order: dict[str, Any]) -> Flask:
    """One node's app."""
    app = Flask("voice_notes_on_flask_session")
    app.config.update(
        SESSION_TYPE="redis",
        SESSION_REDIS=redis.Redis.from_url(order["redis_url"]),
        SESSION_PERMANENT=True,
        PERMANENT_SESSION_LIFETIME=order["idle_timeout"],
        SECRET_KEY="x" * 40,
        MAX_CONTENT_LENGTH=100_000_000,
    )
    Session(app)
    node, nodes, folder = order["node"], order["nodes"], Path(order["folder"])
    folder.mkdir(parents=True, exist_ok=True)  # a node that was killed and comes back has it

    def sid() -> str | None:
        return cast(str, vars(session)["sid"]) if session else None

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    @app.post("/files")
    def upload() -> ResponseReturnValue:
        file = request.files.get("file")
        if file is None or not file.filename:
            abort(400)
        rid = secrets.token_hex(16) + ".wav"
        session.setdefault("files", {})
        mine = folder / str(sid())
        mine.mkdir(exist_ok=True)
        file.save(mine / rid)
        size = file.stream.seek(0, io.SEEK_END)
        session["files"][rid] = {"title": file.filename, "node": node, "size": size}
        session.modified = True
        answer = jsonify(session_id=sid(), resource_id=rid, size=size)
        return answer, 201, {"Location": url_for("serve", rid=rid)}

    @app.get("/files")
    def files() -> ResponseReturnValue:
        listed = [
            {"resource_id": rid, "url": url_for("serve", rid=rid), **note}
            for rid, note in session.get("files", {}).items()
        ]
        return jsonify(session_id=sid(), files=listed)

    @app.get("/files/<rid>")
    def serve(rid: str) -> ResponseReturnValue:
        note = session.get("files", {}).get(rid) or abort(404)
        if note["node"] != node:
            return redirect(f"{nodes[note['node']]}{url_for('serve', rid=rid)}?from={node}", 307)
        file = (folder / str(sid()) / rid).open("rb")
        size = os.fstat(file.fileno()).st_size
        response = Response(cast(Any, wrap_file(request.environ, file)), mimetype="audio/wav", direct_passthrough=True)
        response.content_length = size
        response.set_etag(rid)
        response.headers["Cache-Control"] = "private, no-cache"
        return response.make_conditional(request, accept_ranges=True, complete_length=size)

    @app.delete("/files/<rid>")
    def delete(rid: str) -> ResponseReturnValue:
        note = session.get("files", {}).pop(rid, None) or abort(404)
        session.modified = True
        if note["node"] == node:  # on another node's disk it stays
            (folder / str(sid()) / rid).unlink(missing_ok=True)
        return "", 204

    @app.get("/session")
    def look() -> ResponseReturnValue:
        notes = session.get("files", {})
        used = sum(note["size"] for note in notes.values())
        return jsonify(session_id=sid(), files=len(notes), bytes=used, node=node)

    @app.post("/logout")
    def log_out() -> ResponseReturnValue:
        session.clear()
        return "", 204

    @app.get("/healthz")
    def healthz() -> ResponseReturnValue:
        return jsonify(status="ok", node=node)

    return app


if __name__ == "__main__":
    told = json.loads(os.environ["LOAD_NODE"])
    waitress.serve(create_app(told), host="127.0.0.1", port=told["port"], threads=THREADS, ident=None)
