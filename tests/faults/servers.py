"""A server whose faults a test orders: its clock, memory, role and scripts, and what it keeps of its writes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from sessionsweep_workers.devstack.ports import free_port
from sessionsweep_workers.devstack.server import EmbeddedServer

#: Every acknowledged write is in the kernel before its reply leaves, so `kill -9` of the server loses none. (With
#: `everysec` a slow disk may delay the write by two seconds: what that loses is what `cut_tail` loses.)
DURABLE = {"appendfsync": "no", "auto-aof-rewrite-percentage": "0"}
PADDING = 15_000  # commands: a server looks up from loading after each 1,024, and only then refuses
LOAD_DELAY = 30  # µs a command


def libfaketime() -> Path | None:
    """Debian's package `faketime`; None where it isn't installed."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


def faked_clock(library: Path, **more: str) -> dict[str, str]:
    """The environment of a process whose clock is wrong, but doesn't run backwards as `monotonic` counts."""
    return {"LD_PRELOAD": str(library), "FAKETIME_DONT_FAKE_MONOTONIC": "1", **more}


class FaultyServer(EmbeddedServer):
    """An EmbeddedServer with an AOF in `folder`. `clock`: its clock can be set (`step`), which makes it slower."""

    def __init__(self, folder: Path, *, clock: bool = False, **extra: str) -> None:
        super().__init__(
            data_dir=folder / "data", extra_config=DURABLE | extra, binary=os.environ.get("TEST_REDIS_SERVER")
        )
        self._clock = folder / "clock" if clock and libfaketime() else None
        self.offset = 0  # s, of its clock

    @property
    def clock_can_step(self) -> bool:
        """Whether `step` does anything."""
        return self._clock is not None

    @property
    def environment(self) -> dict[str, str]:
        library = libfaketime()
        if self._clock is None or library is None:
            return super().environment
        if not self._clock.exists():
            self.step(0)
        faked = faked_clock(library, FAKETIME_TIMESTAMP_FILE=str(self._clock), FAKETIME_NO_CACHE="1")
        return super().environment | faked

    @contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """A connection for a moment."""
        with redis.Redis.from_url(self.url) as client:
            yield client

    def met(self, error: str) -> int:
        """How many commands it answered with this error (LOADING, OOM, …) since it was started, PING apart: with that
        the test itself asks whether it has loaded."""
        with self.client() as client:
            errors: Any = client.info("errorstats")
            commands: Any = client.info("commandstats")
        count = int(errors.get(f"errorstat_{error}", {}).get("count", 0))
        return count - (commands.get("cmdstat_ping", {}).get("rejected_calls", 0) if error == "LOADING" else 0)

    def step(self, offset: int) -> None:
        """Sets its clock so many seconds off."""
        assert self._clock is not None
        self._clock.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._clock.with_suffix(".new")
        fresh.write_text(f"{offset:+d}")
        fresh.rename(self._clock)  # never half written
        self.offset = offset

    def crash(self) -> None:
        """`kill -9`; it comes back with what it had acknowledged."""
        self.kill()
        self.restart()

    def load_slowly(self) -> int:
        """Comes back from a crash with much to load, and answers LOADING meanwhile; how often others than we met it."""
        with self.client() as client, client.pipeline(transaction=False) as pipe:
            for _ in range(PADDING):
                pipe.set("padding", "")
            pipe.delete("padding").execute()
        self.kill()
        self._extra["key-load-delay"] = str(LOAD_DELAY)
        try:
            self.restart()
        finally:
            del self._extra["key-load-delay"]
        return self.met("LOADING")

    def fill(self) -> None:
        """Nothing that needs memory is taken any more."""
        with self.client() as client:
            client.config_set("maxmemory", 1)

    def make_room(self) -> int:
        """There is memory again; how many were refused."""
        with self.client() as client:
            client.config_set("maxmemory", 0)
        return self.met("OOM")

    def demote(self) -> None:
        """It takes itself for a replica of somebody who isn't there: READONLY."""
        with self.client() as client:
            client.replicaof("127.0.0.1", free_port())

    def promote(self) -> int:
        """It is a primary again; how many writes it refused."""
        with self.client() as client:
            client.replicaof("NO", "ONE")
        return self.met("READONLY")

    def forget_scripts(self) -> None:
        """SCRIPT FLUSH."""
        with self.client() as client:
            client.script_flush()

    @property
    def aof(self) -> Path:
        """The file that it appends its writes to."""
        (path,) = self.folder.glob("appendonlydir/*.incr.aof")
        return path

    def cut_tail(self, length: int) -> None:
        """A crash after which of its writes only the first `length` bytes are there: an unsynced page, a lagging
        replica, an old snapshot."""
        self.kill()
        with self.aof.open("r+b") as appended:
            appended.truncate(length)
        self.restart()

    def restart_empty(self) -> None:
        """A crash after which nothing is there."""
        self.kill()
        shutil.rmtree(self.folder / "appendonlydir")
        self.restart()
