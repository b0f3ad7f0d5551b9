"""The convert example as its README runs it: a real uvicorn and a real worker of one node."""

from __future__ import annotations

import io
import os
import re
import wave
from pathlib import Path

import httpx
from celery import Celery

from sessionsweep import Session, Sessions, Settings
from support.files import files_below
from support.nodes import KEY
from support.processes import LocalProcess, LocalWorker

EXAMPLES = Path(__file__).parents[2] / "examples"
CELERY = ("python", "-m", "celery", "-A", "fastapi_convert.jobs", "worker")


class Site:
    """Web process and worker of one node, the folder of its volume, and its sessions as this process sees them."""

    def __init__(self, tmp_path: Path, redis_url: str, namespace: str, *, worker: bool = True, **settings: str) -> None:
        self._has_worker = worker
        self.folder = tmp_path / "sounds"
        values = {
            "redis_url": redis_url,
            "namespace": namespace,
            "secret_key": KEY,
            "node": "a",
            "volumes": f"sounds={self.folder}",
            "cleanup_interval": "0.5",
            "grace_period": "0.2",
            "hold": "0.5",
            **settings,
        }
        kept = {name: None for name in os.environ if name.startswith(("SESSIONSWEEP_", "CONVERT_"))}
        env = {
            **kept,
            **{f"SESSIONSWEEP_{name.upper()}": value for name, value in values.items()},
            "PYTHONPATH": os.pathsep.join((str(EXAMPLES), os.environ.get("PYTHONPATH", ""))),
            "CONVERT_PAUSE": "0.05",
        }
        self.web = LocalProcess(
            "web",
            ["python", "-m", "uvicorn", "fastapi_convert.app:app", "--host", "127.0.0.1", "--port", "0"],
            tmp_path,
            env=env,
            ready_when="Uvicorn running on",
            ready_timeout=60,
        )
        self.worker = LocalWorker(
            "worker",
            [*CELERY, "-n", f"{namespace}@test", "-c", "2", "-l", "INFO", "--without-mingle", "--without-gossip"],
            tmp_path,
            env=env,
            cwd=tmp_path,
            ready_when=re.compile(r" ready\.$", re.MULTILINE),
            ready_timeout=60,
        )
        self.sessions = Sessions(Settings(**values))  # type: ignore[arg-type]

    def __enter__(self) -> Site:
        processes = (self.web, self.worker) if self._has_worker else (self.web,)
        for process in processes:
            process.start(wait=False)
        for process in processes:
            process.wait_ready()
        self.url = self.web.wait_for_log(re.compile(r"running on (http://\S+)"))[1]
        return self

    def __exit__(self, *error: object) -> None:
        self.sessions.close()
        for process in (self.web, self.worker):
            process.stop(timeout=2.0)

    def visitor(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30)

    def session(self) -> Session:
        """The only one."""
        (session,), _ = self.sessions.list()
        return session

    def send_again(self, rid: str) -> None:
        """The job's message once more, as a broker may deliver it."""
        with Celery("again", broker=self.sessions.settings.redis_url, set_as_current=False) as app:
            app.conf.broker_transport_options = {"global_keyprefix": f"{self.sessions.settings.namespace}:convert:"}
            app.send_task("convert.to_mono_8khz", args=(self.session().id, rid), queue="convert.a", ignore_result=True)

    def left(self) -> list[Path]:
        """The sounds on its disk."""
        return files_below(self.folder, ".wav")


def recording(seconds: int, *, rate: int = 8000, channels: int = 1, width: int = 2) -> bytes:
    """A WAV file with the same value in all of it."""
    made = io.BytesIO()
    with wave.open(made, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes(b"\x40" * (seconds * rate * channels * width))
    return made.getvalue()
