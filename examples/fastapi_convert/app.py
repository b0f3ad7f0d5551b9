"""Convert: send a WAV file or a text, watch the conversion, fetch the result; all of it lives as long as the session.

uvicorn fastapi_convert.app:app
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path, PurePath
from typing import Annotated, Any, BinaryIO
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Form, HTTPException, Request, UploadFile
from fastapi.responses import FileResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from kombu.exceptions import OperationalError

from sessionsweep.integrations.asgi import CurrentSession, SessionSweepMiddleware, no_activity

from .jobs import key_of, settings, to_mono_8khz
from .wav import UnsuitableError, open_wav, whistle

STATIC = Path(__file__).parent / "static"
MAX_FILE = 50_000_000  # bytes
MAX_JOBS = 20  # of one session
MAX_NAME = 80  # characters
LOOK_EVERY = 0.25  # seconds between two looks at how far a job is
CHUNK = 65_536  # bytes of a file sent at once
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; media-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


async def refuse_foreign(request: Request) -> None:
    """What another site makes a visitor's browser send is refused (ASVS 3.5.1); programs send neither field."""
    if request.method in ("GET", "HEAD"):
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if foreign:
        raise HTTPException(403, "This request comes from another site.")


app = FastAPI(title="Convert", dependencies=[Depends(refuse_foreign)])
app.add_middleware(SessionSweepMiddleware, settings=settings, without_session=["/", "/static/*", "/healthz"])
app.mount("/static", StaticFiles(directory=STATIC))


@app.get("/")
async def page() -> Response:
    """The page; looking at it makes no session."""
    headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    return FileResponse(STATIC / "page.html", headers=headers)


@app.post("/files", status_code=202)
async def take(
    session: CurrentSession, file: UploadFile | None = None, text: Annotated[str, Form()] = ""
) -> dict[str, str]:
    """Keeps a WAV file, or makes one from a text, and has it converted. `GET /progress/{id}` tells how far it is."""
    if len(_jobs(session.data)) >= MAX_JOBS:
        raise HTTPException(429, f"{MAX_JOBS} conversions are enough for one session; log out to begin anew.")
    source, size, name = await _sound(file, text)  # before a session is made for it
    async with session.new_file("source", ".wav", max_size=size) as kept:
        await kept.copy_from(source)
    session.data[key_of(kept.id)] = {"name": name, "done": 0.0, "result": None, "error": None}
    await session.save()  # before the job can begin: of the same key the last one wins
    try:
        await asyncio.to_thread(to_mono_8khz.delay, session.id, kept.id)
    except OperationalError:
        await session.delete(kept.id)
        del session.data[key_of(kept.id)]
        raise HTTPException(503, "Nobody can convert it now; try again in a moment.") from None
    return {"id": kept.id}


@app.get("/files")
@no_activity
async def files(session: CurrentSession) -> list[dict[str, Any]]:
    """The session's conversions, oldest first."""
    return _jobs(session.data)


@app.get("/files/{resource_id}")
async def serve(resource_id: str, session: CurrentSession) -> Response:
    """A file of this session, sent or made; anybody else's is a 404."""
    return StreamingResponse(
        _chunks(await session.open_file(resource_id)),
        media_type="audio/wav",
        headers={"X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-cache"},
    )


@app.get("/progress/{resource_id}")
@no_activity  # a page that lies open renews nothing; while a job runs, the job keeps the session
async def progress(resource_id: str, session: CurrentSession) -> Response:
    """How far an upload's conversion is, as server-sent events: `progress` {"done": 0.4}, in the end `done` {"id": …}
    or `failed` {"error": …}; `session-ended` when the session is over, wherever it was ended."""
    if key_of(resource_id) not in session.existing().data:
        raise HTTPException(404, "There is no such file in this session.")
    told = session.events(_states(session, key_of(resource_id)), purpose="progress")
    return StreamingResponse(told, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


@app.post("/logout", status_code=204)
async def log_out(session: CurrentSession) -> None:
    """Ends the session. A job that runs for it notices; all files are deleted."""
    await session.log_out()


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    """For a balancer; asks the store nothing."""
    return {"status": "ok"}


async def _states(session: CurrentSession, key: str) -> AsyncIterator[dict[str, Any]]:
    """A job's events, from reading its session again and again, which renews nothing."""
    session_id, told = session.id or "", None
    while True:
        now = await session.sessions.get(session_id)
        # None: it has ended, and whoever listens for that closes this stream and says so
        state = now.data.get(key, told) if now is not None else told
        if state != told and state is not None:
            told = state
            yield {"event": "progress", "data": {"done": state["done"]}}
            if state["result"]:
                yield {"event": "done", "data": {"id": state["result"]}}
            if state["error"]:
                yield {"event": "failed", "data": {"error": state["error"]}}
            if state["result"] or state["error"]:
                return
        await asyncio.sleep(LOOK_EVERY)


async def _sound(file: UploadFile | None, text: str) -> tuple[Any, int, str]:
    """What was sent, checked: where to read it, its bytes, what to call it."""
    try:
        if file is not None and file.filename:
            if (file.size or 0) > MAX_FILE:
                raise HTTPException(413, f"That is too large: up to {MAX_FILE // 1_000_000} MB.")
            await asyncio.to_thread(open_wav, file.file)
            await file.seek(0)
            return file, file.size or 0, _name(PurePath(file.filename).name)
        made = io.BytesIO()
        await asyncio.to_thread(whistle, text, made)
        return io.BytesIO(made.getvalue()), made.getbuffer().nbytes, _name(text)
    except UnsuitableError as error:
        raise HTTPException(415 if file else 422, str(error)) from None


def _jobs(data: dict[str, Any]) -> list[dict[str, Any]]:
    prefix = key_of("")
    return [{"id": key.removeprefix(prefix), **state} for key, state in data.items() if key.startswith(prefix)]


def _name(text: str) -> str:
    return "".join(c for c in " ".join(text.split()) if c.isprintable())[:MAX_NAME]


def _chunks(opened: BinaryIO) -> Iterator[bytes]:
    with opened:
        while chunk := opened.read(CHUNK):
            yield chunk
