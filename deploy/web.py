"""The example as compose serves it: beside it /metrics of all its processes, which nginx keeps from strangers."""

from __future__ import annotations

from flask import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from sessionsweep.observe.prometheus import exposed
from voice_notes.app import create_app

app = create_app()
registry = exposed()


# A route of its own, not an app mounted at the prefix: that would answer at /metrics/.., too, where nginx sees /.
@app.get("/metrics")
def metrics() -> Response:
    """What all processes of this node measured."""
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
