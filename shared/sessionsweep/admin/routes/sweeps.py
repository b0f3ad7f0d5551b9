"""`/admin/sweeps`: passes on demand, run by the workers as Celery tasks, and what became of them."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from sessionsweep.admin.desk import Here, Reader, Writer
from sessionsweep.admin.problems import NotFoundError
from sessionsweep.admin.schemas import SweepOut
from sessionsweep.model.rows import MOST

router = APIRouter(tags=["sweeps"])


class Kind(StrEnum):
    """The passes that may be asked for."""

    IDLE = "idle"
    EXPIRED = "expired"
    ORPHANS = "orphans"


@router.get("/sweeps")
def list_sweeps(here: Here, reader: Reader) -> dict[str, Any]:
    """The last run of each task (and of its part on each volume), whoever asked for it."""
    runs = here.dispatcher().last_runs()
    return {"sweeps": [_shown(name, run) for name, run in sorted(runs.items())]}


@router.post("/sweeps/{sweep}", status_code=202)
def send_sweep(here: Here, writer: Writer, sweep: Kind, response: Response) -> SweepOut:
    """Sends a pass to the workers. Where it stands: GET /admin/sweeps/{its request_id}, the answer's `Location`."""
    name = f"sessionsweep.sweep_{sweep}"
    request_id = here.dispatch(name)
    response.headers["Location"] = f"{here.prefix}/sweeps/{request_id}"
    return SweepOut(request_id=request_id, name=name, state="sent")


@router.get("/sweeps/{sweep}")
def show_sweep(
    here: Here,
    reader: Reader,
    sweep: Annotated[str, Path(pattern=r"^[A-Za-z0-9-]{1,64}$", description="The `request_id` of one that was sent.")],
) -> SweepOut:
    """A pass that was asked for, with its parts on other nodes' volumes. The newest hundred are kept."""
    found = here.dispatcher().read(sweep)
    if found is None:
        raise NotFoundError("No worker has begun a pass of that id (yet), or its record is over.")
    return SweepOut(**_shown(sweep, found))


def _shown(request_id: str, run: dict[str, Any]) -> dict[str, Any]:
    at = run.get("at") or 0
    moment = datetime.fromtimestamp(at / 1000, UTC) if 0 < at < MOST else None
    return {**run, "request_id": request_id, "at": moment}
