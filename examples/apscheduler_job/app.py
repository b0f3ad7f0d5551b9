"""The app: keep notes as long as your session, and see what the scheduled job does with sessions that are over.

uvicorn apscheduler_job.app:app
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from apscheduler.schedulers.background import BackgroundScheduler
from fastapi import FastAPI, Form
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles

from sessionsweep import AsyncSessions
from sessionsweep.integrations.asgi import CurrentSession, SessionSweepMiddleware, no_activity

from .cleanup import JOB_ID, Cleanup, Events

STATIC = Path(__file__).parent / "static"
MAX_TEXT = 2_000  # characters
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

_handler = logging.StreamHandler()
_handler.setFormatter(Events())
logging.basicConfig(level=logging.INFO, handlers=[_handler])
logging.getLogger("apscheduler").setLevel(logging.WARNING)  # our event says more than its two lines a run

sessions = AsyncSessions.from_env()
cleanup = Cleanup(sessions)
# In threads: the passes are plain, blocking Python, and must not hold up the event loop.
scheduler = BackgroundScheduler(timezone=UTC)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Here, not at import: threads don't survive a server's fork, and a reload must not leave a second scheduler."""
    scheduler.start()
    cleanup.register(scheduler)
    yield
    cleanup.stop()
    await asyncio.to_thread(scheduler.shutdown)  # waits for a run under way
    await sessions.close()


app = FastAPI(title="Scheduled cleanup", lifespan=lifespan)
app.add_middleware(SessionSweepMiddleware, sessions=sessions, without_session=["/", "/static/*", "/runs"])
app.mount("/static", StaticFiles(directory=STATIC))


@app.get("/")
async def page() -> Response:
    """The page; looking at it makes no session."""
    headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    return FileResponse(STATIC / "page.html", headers=headers)


@app.post("/notes", status_code=201)
async def keep(
    session: CurrentSession, text: Annotated[str, Form(min_length=1, max_length=MAX_TEXT)]
) -> dict[str, str]:
    """Keeps a note as a file of the session."""
    async with session.new_file("note", ".txt") as file:
        await file.write(text.encode())
    return {"id": file.id}


@app.get("/mine")
@no_activity
async def mine(session: CurrentSession) -> dict[str, Any]:
    """How many notes the session has, and the seconds that it lasts; asking renews nothing."""
    return {"notes": session.resource_count, "seconds": session.time_left()}


@app.get("/runs")
async def runs() -> dict[str, Any]:
    """The last runs of this process's job, the newest first, and when the next comes."""
    job = scheduler.get_job(JOB_ID)
    return {
        "runs": list(cleanup.runs),
        "next": job and job.next_run_time,
        "interval": sessions.settings.cleanup_interval,
    }


@app.post("/runs", status_code=202)
async def run_now() -> None:
    """Has the job run at once, not besides. A real app lets only its operators do that."""
    scheduler.modify_job(JOB_ID, next_run_time=datetime.now(UTC))


@app.post("/leave", status_code=204)
async def leave(session: CurrentSession) -> None:
    """Ends the session; the next run deletes its notes."""
    await session.log_out()
