"""Seeded faults against a running deployment, and how long it takes to recover from each, seen from the outside."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import redis

from benchmarks.load import messages
from benchmarks.load.deployed import Up
from benchmarks.load.http11 import Address
from sessionsweep.volumes.layout import relative

GIVE_UP = 180.0  # seconds after which a recovery is no longer waited for, unless told otherwise


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault and its end. Seconds since the fault began: `web` until each node has again stored a file and ended a
    session, `debt` until those files are gone from each node's own disk; None: given up."""

    at: float
    kind: str
    role: str
    lasted: float
    web: float | None
    debt: float | None

    def as_json(self) -> dict[str, object]:
        """For the report."""
        return asdict(self)


class Faults(threading.Thread):
    """One fault after the other until closed, each when the last is recovered from and a pause is over.

    Args:
        kinds: (kind, roles), dealt like cards; see `_do`.
        pause: shortest and longest pause, seconds.
        spared: the letter of the node whose processes live on at a moment (seconds); its twin dies instead.
        give_up: seconds after which a recovery is no longer waited for.
        interval: of the deployment's beat, seconds: how long messages pile up, and beats are absent or doubled.
    """

    def __init__(
        self,
        up: Up,
        seed: str,
        kinds: Sequence[tuple[str, Sequence[str]]],
        pause: tuple[float, float],
        spared: Callable[[float], str] = lambda _: "",
        give_up: float = GIVE_UP,
        interval: float = 5.0,
    ) -> None:
        super().__init__(name="faults", daemon=True)
        self.done: list[Fault] = []
        self.error: BaseException | None = None
        self._up, self._dice, self._kinds, self._pause = up, random.Random(f"{seed} faults"), kinds, pause
        self._spared, self._give_up, self._interval = spared, give_up, interval
        self._deck: list[tuple[str, Sequence[str]]] = []
        self._closed = threading.Event()
        self._begun = time.monotonic()
        self._client: redis.Redis = redis.Redis.from_url(up.server.url, socket_timeout=5)

    def run(self) -> None:
        """The thread."""
        try:
            while not self._closed.wait(self._dice.uniform(*self._pause)):
                self._one()
        except BaseException as error:  # told by `close`
            self.error = error

    def _one(self) -> None:
        at = time.monotonic() - self._begun
        if not self._deck:  # each kind comes before any comes again
            self._deck = self._dice.sample(self._kinds, len(self._kinds))
        kind, roles = self._deck.pop()
        role = self._dice.choice(roles)
        if kind in ("kill", "term") and (spared := self._spared(at)) and role.endswith(f"-{spared}"):
            role = role[: -len(spared)] + ("b" if spared == "a" else "a")
        begun = time.monotonic()
        self._do(kind, role)
        lasted = time.monotonic() - begun
        web, debt = recovery(self._up, begun, self._give_up)
        self.done.append(Fault(round(at, 1), kind, role, round(lasted, 2), web, debt))

    def _do(self, kind: str, role: str) -> None:
        if role == "redis" and kind == "kill":
            self._up.server.kill()
            self._closed.wait(self._dice.uniform(0, 2))  # whoever starts servers again isn't there at once
            self._up.server.start(timeout=120)
        elif kind in ("kill", "term"):
            self._signal(role, signal.SIGKILL if kind == "kill" else signal.SIGTERM)
        elif kind == "stop":
            with self._stopped(role):
                self._closed.wait(self._dice.uniform(1, 6))
        elif kind == "cut":
            self._client.client_kill_filter(_type="normal", skipme=True)
        elif kind == "flush scripts":
            self._client.script_flush()
        elif kind == "lose messages":
            messages.lose(self._client)
        elif kind == "double messages":
            # they are late, too: nobody takes them meanwhile
            with self._stopped("worker-a"), self._stopped("worker-b"):
                self._closed.wait(self._dice.uniform(1, 1.6) * self._interval)
                messages.double(self._client, self._dice)
        elif kind == "forge messages":
            messages.forge(self._client, self._dice)
        elif kind == "no beat":
            with self._stopped(role):
                self._closed.wait(self._dice.uniform(2, 3) * self._interval)
        elif kind == "two beats":
            with self._up.another(role):
                self._closed.wait(self._dice.uniform(2, 3) * self._interval)
        else:
            raise ValueError(kind)

    @contextlib.contextmanager
    def _stopped(self, role: str) -> Iterator[None]:
        pid = self._signal(role, signal.SIGSTOP)
        try:
            yield
        finally:
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def _signal(self, role: str, signum: signal.Signals) -> int:
        """The pid that got it; 0: it isn't there just now."""
        pid = self._up.pids().get(role, 0)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
                return pid
        return 0

    def close(self) -> list[Fault]:
        """Ends it after the present fault's recovery; what was done.

        Raises:
            RuntimeError: the thread itself failed.
        """
        self._closed.set()
        self.join()
        self._client.close()
        if self.error is not None:
            raise RuntimeError("the schedule of faults broke off") from self.error
        return self.done


def recovery(up: Up, since: float, give_up: float) -> tuple[float | None, float | None]:
    """(web, debt) of `Fault`."""
    deadline = since + give_up
    waiting = dict(zip(up.nodes, up.own, strict=True))
    owed = []
    while waiting and time.monotonic() < deadline:
        for node, volume in list(waiting.items()):
            with contextlib.suppress(OSError, http.client.HTTPException, KeyError, ValueError):
                owed.append(up.volumes[volume] / _leave_a_debt(node))
                del waiting[node]
        time.sleep(0.02)
    if waiting:
        return None, None
    web = round(time.monotonic() - since, 2)
    while any(path.exists() for path in owed):
        if time.monotonic() > deadline:
            return web, None
        time.sleep(0.02)
    return web, round(time.monotonic() - since, 2)


def _leave_a_debt(node: Address) -> str:
    """A new session stores a file on the node's own volume and logs out; the file's path below the volume's root."""
    with _connection(node) as connection:
        boundary = "probe"
        body = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="probe.wav"\r\n\r\n'
            f"RIFF\r\n--{boundary}--\r\n"
        )
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        connection.request("POST", "/files", body.encode(), headers)
        answer = connection.getresponse()
        told, cookie = json.loads(answer.read()), (answer.getheader("Set-Cookie") or "").partition(";")[0]
        path = relative(told["session_id"], told["resource_id"])
        connection.request("POST", "/logout", headers={"Cookie": cookie})
        answer = connection.getresponse()
        answer.read()
        if answer.status != http.HTTPStatus.NO_CONTENT:
            raise http.client.HTTPException(answer.status)
        return path


@contextlib.contextmanager
def _connection(node: Address) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(*node, timeout=5)
    try:
        yield connection
    finally:
        connection.close()
