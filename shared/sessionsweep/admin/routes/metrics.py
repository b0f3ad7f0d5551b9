"""`/metrics`, for Prometheus: beside `/admin`, where it looks."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from sessionsweep.admin.desk import Here, Reader
from sessionsweep.admin.problems import UnavailableError

router = APIRouter(tags=["metrics"])


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(here: Here, reader: Reader, request: Request) -> Response:
    """All metrics, in the format that the client accepts: Prometheus' or OpenMetrics. Also while the store is away."""
    try:
        from prometheus_client.exposition import choose_encoder

        from sessionsweep.admin.metrics import registry
    except ModuleNotFoundError as error:
        raise UnavailableError(f"{error.name} isn't installed here: pip install 'sessionsweep[metrics]'.") from error
    state = request.app.state
    if not hasattr(state, "metrics"):
        state.metrics = registry(here)
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(state.metrics), media_type=media_type)
