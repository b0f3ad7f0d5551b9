"""A Flask and a Django app that measure themselves, with /metrics beside their own pages (docs/metrics.md)."""

from __future__ import annotations

import os
from typing import Any


def flask_app() -> Any:
    """Flask's."""
    from flask import Flask, Response, jsonify
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    from sessionsweep.integrations.flask import SessionSweep, current_session
    from sessionsweep.observe.prometheus import exposed

    app = Flask(__name__)
    SessionSweep(app)

    @app.post("/file")
    def file() -> Response:
        with current_session.new_file(purpose="test") as f:
            f.write(b"x" * 10)
        return jsonify(pid=os.getpid())

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(exposed()), content_type=CONTENT_TYPE_LATEST)

    return app


def django_app() -> Any:
    """Django's; its pages are in `measured_urls`."""
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application

    engine = "sessionsweep.integrations.django"
    settings.configure(
        SECRET_KEY=os.environ["SESSIONSWEEP_SECRET_KEY"],
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=["django.contrib.sessions", engine],
        MIDDLEWARE=[f"{engine}.middleware.SessionMiddleware"],
        SESSION_ENGINE=engine,
        ROOT_URLCONF="measured_urls",
    )
    return get_wsgi_application()
