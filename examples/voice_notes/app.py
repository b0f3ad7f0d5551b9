"""Voice notes: record, upload or let it speak; everything lives as long as the session that made it.

The whole of sessionsweep's part: `SessionSweep(app)`, `current_session` where a view keeps or reads something, and
`session_routes()` for what the page asks itself: time left, staying, the user's other sessions.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, BinaryIO, cast

from flask import Flask, Response, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import BadRequest, Forbidden, HTTPException
from werkzeug.wsgi import wrap_file

from sessionsweep import Sessions, Settings, VolumeNotHereError
from sessionsweep.integrations.flask import SessionSweep, current_session, session_routes

from .nodes import VARIABLE, elsewhere, origins, parse_nodes
from .origin import is_foreign
from .voice import MAX_TEXT, check, speak

#: Suffixes that a file may keep, and what it is then served as. Anything else is stored without a suffix and served
#: as an attachment: neither a name nor a type of the user's choice ever reaches a disk or a browser.
AUDIO = {
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".webm": "audio/webm",
    ".m4a": "audio/mp4",
    ".aac": "audio/aac",
    ".flac": "audio/flac",
}
MAX_TITLE = 80
MAX_USER = 64
FORM_FRAME = 64 * 1024  # bytes that a multipart form adds to its file
WARN = 60  # seconds before the end at which the page warns; of a short session, its last quarter
NOTE = "note:"  # one key of the session's data for each file, so that two uploads at once keep both


def create_app(settings: Settings | None = None, sessions: Sessions | None = None) -> Flask:
    """The app. Without `settings` it takes those of the environment; a test gives it its own `sessions`.

    Raises:
        ConfigurationError: a setting is missing or impossible.
    """
    app = Flask(__name__)
    sweep = SessionSweep(app, settings, sessions=sessions)
    app.register_blueprint(session_routes())
    with app.app_context():
        settings = sweep.sessions.settings
    nodes = parse_nodes(os.environ.get(VARIABLE, ""))
    if settings.max_bytes_per_session:
        app.config["MAX_CONTENT_LENGTH"] = settings.max_bytes_per_session + FORM_FRAME
    players = origins(nodes)
    policy = _policy(players)

    @app.before_request
    def refuse_foreign() -> None:
        if is_foreign(request):
            raise Forbidden("This request comes from another site.")

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", policy)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Permissions-Policy"] = "microphone=(self), camera=(), geolocation=()"
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        return response

    @app.errorhandler(HTTPException)
    def explain(error: HTTPException) -> ResponseReturnValue:
        if error.code is not None and error.code < 400:
            return error
        text = error.description
        if error.code == 413:
            text = f"That is too large: a session holds up to {_megabytes(settings.max_bytes_per_session)}."
        answer = error.get_response()  # with the error's own header fields: Allow, Content-Range
        answer.data = jsonify(error=text).data
        answer.content_type = "application/json"
        return cast(Response, answer)

    @app.get("/")
    def page() -> ResponseReturnValue:
        links = {name: address for name, address in nodes.items() if name != settings.node}
        body = render_template(
            "page.html",
            node=settings.node,
            others=links,
            max_text=MAX_TEXT,
            accept=",".join(AUDIO),
            most=_megabytes(settings.max_bytes_per_session),
            warn=min(WARN, settings.idle_timeout / 4),
        )
        return body, {"Cache-Control": "no-cache"}

    @app.post("/files")
    def upload() -> ResponseReturnValue:
        file = request.files.get("file")
        if file is None or not file.filename:
            raise BadRequest("Send a recording as the multipart field `file`.")
        suffix = PurePath(file.filename).suffix.lower()
        with current_session.new_file(
            purpose="upload", suffix=suffix if suffix in AUDIO else "", max_size=_size(file)
        ) as f:
            f.copy_from(file.stream)
        return made(f.id, f.size, PurePath(file.filename).name)

    @app.post("/speak")
    def synthesize() -> ResponseReturnValue:
        try:
            text = check(_field("text"))  # before a session is made for it
        except ValueError as error:
            raise BadRequest(str(error)) from None
        with current_session.new_file(purpose="tts", suffix=".wav") as f:
            speak(text, cast(BinaryIO, f))
        return made(f.id, f.size, " ".join(text.split()))

    def made(resource_id: str, size: int, title: str) -> ResponseReturnValue:
        shown = "".join(c for c in title if c.isprintable())[:MAX_TITLE]
        current_session.data[NOTE + resource_id] = {"title": shown, "node": settings.node}
        _forget_old_notes(settings.max_resources_per_session)
        body = {"session_id": current_session.id, "resource_id": resource_id, "size": size}
        return jsonify(body), 201, {"Location": url_for("serve", resource_id=resource_id)}

    @app.get("/files")
    def files() -> ResponseReturnValue:
        listed = []
        for resource in current_session.resources():
            note: Mapping[str, Any] = current_session.data.get(NOTE + resource.id) or {}
            listed.append(
                {
                    "resource_id": resource.id,
                    "purpose": resource.purpose,
                    "title": note.get("title"),
                    "size": resource.size,
                    "created": resource.created_at.isoformat(),
                    "url": url_for("serve", resource_id=resource.id),
                    "node": note.get("node"),
                }
            )
        return jsonify(session_id=current_session.id, files=listed)

    @app.get("/files/<resource_id>")
    def serve(resource_id: str) -> ResponseReturnValue:
        try:
            file = current_session.open_file(resource_id)
        except VolumeNotHereError as error:
            address = elsewhere(nodes, error.nodes, settings.node)
            # Whoever was sent here already is not sent on: two nodes might each believe in the other.
            if address is None or "from" in request.args:
                raise
            target = f"{address}{url_for('serve', resource_id=resource_id)}?from={settings.node}"
            return redirect(target, 307), {"Cache-Control": "private, no-store"}  # volumes move
        answer = _send(file, resource_id)
        if players:
            # Pages of other nodes play it. `same-site` would do, but browsers call no two ports of an IP address
            # that. Strangers gain nothing: to other sites' requests the browser adds no cookie (`SameSite=Lax`).
            answer.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return answer

    @app.delete("/files/<resource_id>")
    def delete(resource_id: str) -> ResponseReturnValue:
        current_session.delete(resource_id)
        current_session.data.pop(NOTE + resource_id, None)
        return "", 204

    @app.get("/session")
    def session() -> ResponseReturnValue:
        seen = current_session.peek()
        body = {
            "session_id": seen and seen.id,
            "user": seen and seen.user,
            "expires_in": seen and seen.expires_in,
            "files": seen.resource_count if seen else 0,
            "bytes": seen.bytes_used if seen else 0,
            "max_bytes": settings.max_bytes_per_session,
            "idle_timeout": settings.idle_timeout,
            "node": settings.node,
        }
        return jsonify(body), {"Cache-Control": "private, no-store"}

    @app.post("/login")
    def log_in() -> ResponseReturnValue:
        user = _field("user").strip()
        if not 0 < len(user) <= MAX_USER or not user.isprintable():
            raise BadRequest(f"Give a name of 1 to {MAX_USER} printable characters as `user`.")
        current_session.log_in(user)
        return jsonify(session_id=current_session.id, user=user, expires_in=current_session.expires_in)

    @app.post("/logout")
    def log_out() -> ResponseReturnValue:
        current_session.log_out()
        return "", 204

    @app.get("/healthz")
    def healthz() -> ResponseReturnValue:
        return jsonify(status="ok", node=settings.node), {"Cache-Control": "no-store"}

    return app


def _field(name: str) -> str:
    """A text field of a JSON object or a form."""
    if request.is_json:
        try:
            body = request.get_json()
        except RecursionError:
            raise BadRequest("This JSON nests too deeply.") from None
        value = body.get(name) if isinstance(body, dict) else None
    else:
        value = request.form.get(name)
    if not isinstance(value, str):
        raise BadRequest(f"Send the text field `{name}`, in a JSON object or a form.")
    return value


def _size(file: FileStorage) -> int:
    """An upload's bytes: it has arrived already, so its exact size can be reserved, or refused."""
    size = file.stream.seek(0, io.SEEK_END)
    file.stream.seek(0)
    return size


def _megabytes(size: int) -> str:
    """A limit for people: `100 MB`, or nothing where there is none."""
    return f"{size / 1e6:.3g} MB" if size else ""


def _forget_old_notes(most: int) -> None:
    """Drops the notes of files that were evicted at the limit, once there are more notes than files may be."""
    notes = [key for key in current_session.data if key.startswith(NOTE)]
    if len(notes) > most:
        owned = {resource.id for resource in current_session.resources()}
        for key in notes:
            if key.removeprefix(NOTE) not in owned:
                del current_session.data[key]


def _send(file: BinaryIO, resource_id: str) -> Response:
    """A file with everything that a player asks for: ranges, a validator, its size (RFC 9110, 13 and 14)."""
    kind = AUDIO.get(PurePath(resource_id).suffix)
    size = os.fstat(file.fileno()).st_size
    body = cast(Any, wrap_file(request.environ, file))
    response = Response(body, mimetype=kind or "application/octet-stream", direct_passthrough=True)
    response.content_length = size
    response.set_etag(resource_id)  # ids are never used twice and files never change
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    disposition = "inline" if kind else "attachment"
    response.headers["Content-Disposition"] = f'{disposition}; filename="{resource_id}"'
    try:
        return cast(Response, response.make_conditional(request, accept_ranges=True, complete_length=size))
    except HTTPException:
        file.close()  # a range that can't be met
        raise


def _policy(media: list[str]) -> str:
    """The page's content security policy (ASVS 3.4.3): its own script and style, players of every node's files."""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",
            " ".join(("media-src 'self' blob:", *media)),
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )
