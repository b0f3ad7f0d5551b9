"""The example as compose serves it: beside it /metrics of all its processes, which nginx keeps from strangers."""

from __future__ import annotations

from prometheus_client import make_wsgi_app
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from sessionsweep.observe.prometheus import exposed
from voice_notes.app import create_app

app = create_app()
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/metrics": make_wsgi_app(exposed())})  # type: ignore[method-assign]
