"""The background job and its Celery app, which is sessionsweep's worker, too.

    celery -A fastapi_convert.jobs worker

A job's state is one top-level key of its session's data. So the job's saves and a request's never undo each other,
and the state goes when the session does.
"""

from __future__ import annotations

import os
import time
import wave
from functools import cache
from typing import Any, BinaryIO, cast

from celery import Celery
from celery.utils.log import get_task_logger

from sessionsweep import (
    InvalidTokenError,
    LimitReachedError,
    ResourceNotFoundError,
    Session,
    Sessions,
    Settings,
    StoreError,
    VolumeError,
)
from sessionsweep_workers import install

from .wav import UnsuitableError, converted, open_wav, write_header

LONGEST = "10m"  # for so long a job may keep its session; a job that died keeps it no longer
TELL_EVERY = 0.2  # seconds between two saves of how far a job is
#: Seconds to rest after each second of sound: leaves the processor to others, and lets you watch.
PAUSE = float(os.environ.get("CONVERT_PAUSE", "0"))

log = get_task_logger(__name__)
settings = Settings.from_env()
celery_app = Celery("convert", broker=settings.require_broker_url(), set_as_current=False)
celery_app.conf.update(
    # A file lies on the disk of the node that took it: that node's worker converts it.
    task_default_queue=f"convert.{settings.node}",
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"global_keyprefix": f"{settings.namespace}:convert:"},
)
install(celery_app, settings)


@cache
def sessions() -> Sessions:
    """This process's; made with the first job, because a connection doesn't survive a fork."""
    return Sessions(settings)


def key_of(resource_id: str) -> str:
    """Where in the session's data the state of the job for an upload stands."""
    return f"job:{resource_id}"


@celery_app.task(name="convert.to_mono_8khz", acks_late=True, autoretry_for=(StoreError,), retry_backoff=True)  # type: ignore[untyped-decorator]
def to_mono_8khz(session_id: str, resource_id: str) -> None:
    """Converts a file of a session into a new one. It may run twice, and then finds that it is done."""
    try:
        _run(sessions().attach(session_id), resource_id)
    except InvalidTokenError:
        # It was over before the job began, or it ended meanwhile: what had been written is gone with it.
        log.info("session %s is over, and so is the conversion of %s", session_id, resource_id)


def _run(session: Session, resource_id: str) -> None:
    state = session.data.get(key_of(resource_id))
    if state is None or state["result"] or state["error"]:
        return
    try:
        with session.keep_alive(max=LONGEST), session.pin(resource_id, max=LONGEST) as source:
            result = _convert(session, resource_id, source)
            session.extend()  # from here on its owner has the whole idle time to fetch it
        # told when nothing keeps the session any more: a page that then asks for the time left hears the truth
        _tell(session, resource_id, done=1.0, result=result)
    except (UnsuitableError, LimitReachedError, ResourceNotFoundError) as error:
        _tell(session, resource_id, error=str(error))
    except VolumeError:
        _tell(session, resource_id, error="The disk doesn't take it now; try again later.")
        raise  # for the log: its words name paths


def _convert(session: Session, resource_id: str, source: BinaryIO) -> str:
    told = time.monotonic()
    # An exception discards the file, that of a session that has ended, too.
    with (
        open_wav(source) as sound,
        session.new_file("converted", ".wav") as file,
        wave.open(cast(BinaryIO, file), "wb") as out,
    ):
        write_header(out)
        for second in converted(sound):
            out.writeframesraw(second)
            if time.monotonic() - told >= TELL_EVERY:
                told = time.monotonic()
                _tell(session, resource_id, done=min(0.99, sound.tell() / sound.getnframes()))
            time.sleep(PAUSE)
    return file.id


def _tell(session: Session, resource_id: str, **changes: Any) -> None:
    """Raises SessionEndedError: nobody waits for it any more."""
    key = key_of(resource_id)
    session.data[key] = {**session.data[key], **changes}
    session.save()
