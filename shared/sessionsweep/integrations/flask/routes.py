"""Routes that an app may register: how long the session lasts, staying longer, one's other sessions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from flask import Blueprint, abort, jsonify, request
from flask.typing import ResponseReturnValue

from sessionsweep.integrations import timeleft
from sessionsweep.integrations.flask.interface import current_session
from sessionsweep.integrations.origins import REFUSAL, Origins, Sender
from sessionsweep.integrations.others import OtherSession
from sessionsweep.integrations.paths import no_activity

PREFIX = timeleft.TIME_LEFT_PATH.rpartition("/")[0]
NOT_KEPT = {"Cache-Control": "private, no-store"}


def session_routes(url_prefix: str = PREFIX, *, allowed_origins: Iterable[str] = ()) -> Blueprint:
    """`app.register_blueprint(session_routes())`: below `url_prefix`,

    - `GET time-left` and `POST extend`: `{"seconds": 812.4}`; null without a session. Only the second renews.
    - `GET warning.js`: the script that warns before the end and offers to stay.
    - `GET others`: the user's other sessions; `POST others/end`: ends all of them, `POST others/<id>/end`: one.

    Changes are made by POST only, which other sites can't send with a `SameSite` cookie; a page of any origin but the
    request's own and `allowed_origins` (`https://app.example`; `*`: all), a sibling subdomain's too, is told 403.

    Raises:
        ConfigurationError: an entry of `allowed_origins` is no origin.
    """
    routes = Blueprint("sessionsweep", __name__, url_prefix=url_prefix)
    allowed = Origins(allowed_origins)

    @routes.before_request
    def refuse_foreign_pages() -> ResponseReturnValue | None:
        if request.method == "POST" and allowed.refuse(_sender(), request.path):
            return jsonify(REFUSAL), 403, NOT_KEPT
        return None

    @routes.get("/time-left")
    @no_activity
    def time_left() -> ResponseReturnValue:
        return jsonify(timeleft.body(current_session.time_left())), NOT_KEPT

    @routes.post("/extend")
    def extend() -> ResponseReturnValue:
        if current_session:
            current_session.extend()
        return jsonify(timeleft.body(current_session.expires_in)), NOT_KEPT

    @routes.get("/warning.js")
    @no_activity
    def warning() -> ResponseReturnValue:
        return timeleft.script(), {"Content-Type": timeleft.SCRIPT_TYPE, "Cache-Control": "public, max-age=3600"}

    @routes.get("/others")
    @no_activity
    def others() -> ResponseReturnValue:
        return jsonify(sessions=[_shown(one) for one in current_session.others()]), NOT_KEPT

    @routes.post("/others/end")
    def end_others() -> ResponseReturnValue:
        return jsonify(ended=current_session.log_out_others()), NOT_KEPT

    @routes.post("/others/<session_id>/end")
    def end_other(session_id: str) -> ResponseReturnValue:
        if not current_session.end_other(session_id):
            abort(404)
        return "", 204, NOT_KEPT

    return routes


def _sender() -> Sender:
    fields = request.headers
    return Sender(fields.getlist("Origin"), fields.get("Sec-Fetch-Site", ""), request.host, request.is_secure)


def _shown(other: OtherSession) -> dict[str, Any]:
    times = {"created_at": other.created_at.isoformat(), "last_seen": other.last_seen.isoformat()}
    return {**asdict(other), **times}
