"""A FastAPI app that measures itself, as servers import it, with /metrics beside its own pages (docs/metrics.md)."""

from __future__ import annotations

import os

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from sessionsweep.integrations.asgi import CurrentSession, SessionSweepMiddleware
from sessionsweep.observe.prometheus import exposed

app = FastAPI()
app.add_middleware(SessionSweepMiddleware)


@app.get("/metrics", include_in_schema=False)
def metrics() -> Response:
    """Of all processes."""
    return Response(generate_latest(exposed()), media_type=CONTENT_TYPE_LATEST)


@app.post("/file")
async def file(session: CurrentSession) -> dict[str, int]:
    """Writes one."""
    async with session.new_file(purpose="test") as f:
        await f.write(b"x" * 10)
    return {"pid": os.getpid()}
