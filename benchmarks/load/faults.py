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
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import redis

from benchmarks.load import messages
from benchmarks.load.deployed import Side
from benchmarks.load.http11 import Address

DEADLY = ("kill", "term")
Kinds = Sequence[tuple[str, Sequence[str]]]  # each a kind of fault and the roles of which one is struck
STARTS_WITHIN = 15.0  # seconds that a second beat gets to become ready
GIVE_UP = 180.0  # seconds after which a recovery is no longer waited for, unless told otherwise


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault that bit, and its end. `did`: how many processes, connections, scripts or messages it met. Seconds
    since the fault began: `web` until each node has again stored a file and ended a session, `debt` until those files
    are gone from each node's own disk (at once where nobody deletes any), `back` until another process is in the killed
    one's place; None: given up."""

    at: float
    kind: str
    role: str
    did: int
    lasted: float
    web: float | None
    debt: float | None
    back: float | None

    def as_json(self) -> dict[str, object]:
        """For the report."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Missed:
    """A fault that did nothing: its role was just away, or nothing waited that could be lost."""

    at: float
    kind: str
    role: str

    def as_json(self) -> dict[str, object]:
        """For the report."""
        return asdict(self)


def never_bit(kinds: Kinds, done: Sequence[Fault]) -> list[str]:
    """Those of the kinds that did nothing in a whole run."""
    bit = {(fault.kind, fault.role) for fault in done}
    return [f"{kind} {'/'.join(roles)}" for kind, roles in kinds if not any((kind, role) in bit for role in roles)]


class Faults(threading.Thread):
    """One fault after the other until closed, each when the last is recovered from and a pause is over.

    Args:
        kinds: dealt like cards; see `_do`.
        pause: shortest and longest pause, seconds.
        spared: roles whose processes live on at a moment (seconds), so that they grow old.
        give_up: seconds after which a recovery is no longer waited for.
        interval: of the deployment's beat, seconds: how long messages pile up, and beats are absent or doubled.
    """

    def __init__(
        self,
        side: Side,
        seed: str,
        kinds: Kinds,
        pause: tuple[float, float],
        spared: Callable[[float], Collection[str]] = lambda _: (),
        give_up: float = GIVE_UP,
        interval: float = 5.0,
    ) -> None:
        super().__init__(name="faults", daemon=True)
        self.done: list[Fault] = []
        self.missed: list[Missed] = []
        self.error: BaseException | None = None
        self._side, self._dice, self._kinds, self._pause = side, random.Random(f"{seed} faults"), kinds, pause
        self._spared, self._give_up, self._interval = spared, give_up, interval
        self._deck: list[tuple[str, Sequence[str]]] = []
        self._closed = threading.Event()
        self._begun = time.monotonic()
        self._client: redis.Redis = redis.Redis.from_url(side.server.url, socket_timeout=5)

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
        spared = self._spared(at) if kind in DEADLY else ()
        role = self._dice.choice([role for role in roles if role not in spared])
        pid = self._side.pids().get(role, 0)
        begun = time.monotonic()
        did = self._do(kind, role)
        lasted = time.monotonic() - begun
        if not did:
            self.missed.append(Missed(round(at, 1), kind, role))
            return
        web, debt, back = recovery(self._side, begun, self._give_up, role, pid if kind in DEADLY else 0)
        self.done.append(Fault(round(at, 1), kind, role, did, round(lasted, 2), web, debt, back))

    def _do(self, kind: str, role: str) -> int:
        """How much it did; 0: nothing, and it was no fault."""
        if role == "redis" and kind == "kill":
            self._side.server.kill()
            self._closed.wait(self._dice.uniform(0, 2))  # whoever starts servers again isn't there at once
            self._side.server.start(timeout=120)
            return 1
        if kind in DEADLY:
            return int(self._signal(role, signal.SIGKILL if kind == "kill" else signal.SIGTERM) > 0)
        if kind in ("stop", "no beat"):
            shortest, longest = (1, 6) if kind == "stop" else (2 * self._interval, 3 * self._interval)
            with self._stopped(role) as stopped:
                self._closed.wait(self._dice.uniform(shortest, longest))
            return int(stopped)
        if kind == "two beats":
            with self._side.another(role) as works:
                deadline = time.monotonic() + STARTS_WITHIN
                while not works() and time.monotonic() < deadline and not self._closed.wait(0.05):
                    pass
                self._closed.wait(self._dice.uniform(2, 3) * self._interval)
                return int(works())
        return self._to_the_server(kind)

    def _to_the_server(self, kind: str) -> int:
        if kind == "cut":
            return int(self._client.client_kill_filter(_type="normal", skipme=True))
        if kind == "flush scripts":
            known = int(self._client.info("memory")["number_of_cached_scripts"])
            self._client.script_flush()
            return known
        if kind == "forge messages":
            return messages.forge(self._client, self._dice, within=10 + 2 * self._interval)
        if kind not in ("lose messages", "double messages"):
            raise ValueError(kind)
        # Nobody takes them meanwhile, so there are some; and those that stay are late.
        with self._stopped("worker-a"), self._stopped("worker-b"):
            self._closed.wait(self._dice.uniform(1, 1.6) * self._interval)
            lose = kind == "lose messages"
            return messages.lose(self._client) if lose else messages.double(self._client, self._dice)

    @contextlib.contextmanager
    def _stopped(self, role: str) -> Iterator[bool]:
        """Whether there was anything to stop."""
        pid = self._signal(role, signal.SIGSTOP)
        try:
            yield pid > 0
        finally:
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def _signal(self, role: str, signum: signal.Signals) -> int:
        """The pid that got it; 0: it isn't there just now."""
        pid = self._side.pids().get(role, 0)
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


def recovery(
    side: Side, since: float, give_up: float, role: str = "", pid: int = 0
) -> tuple[float | None, float | None, float | None]:
    """(web, debt, back) of `Fault`, where the process `pid` of that role was killed."""
    waiting = list(side.nodes)
    owed: list[Path] = []
    web = debt = None
    back = None if pid else 0.0
    while None in (web, debt, back) and (now := round(time.monotonic() - since, 2)) < give_up:
        if back is None and side.pids().get(role, pid) != pid:
            back = now
        for node in list(waiting):
            with contextlib.suppress(OSError, http.client.HTTPException, KeyError, ValueError):
                told = _leave_a_debt(node)
                if path := side.to_be_deleted(node, told):
                    owed.append(path)
                waiting.remove(node)
        now = round(time.monotonic() - since, 2)
        if web is None and not waiting:
            web = now
        if debt is None and not waiting and not any(path.exists() for path in owed):
            debt = now
        time.sleep(0.02)
    return web, debt, back


def _leave_a_debt(node: Address) -> dict[str, str]:
    """A new session stores a file on the node's own disk and logs out; what it was told of the file."""
    with _connection(node) as connection:
        boundary = "probe"
        body = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="probe.wav"\r\n\r\n'
            f"RIFF\r\n--{boundary}--\r\n"
        )
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        connection.request("POST", "/files", body.encode(), headers)
        answer = connection.getresponse()
        told: dict[str, str] = json.loads(answer.read())
        cookie = (answer.getheader("Set-Cookie") or "").partition(";")[0]
        connection.request("POST", "/logout", headers={"Cookie": cookie})
        answer = connection.getresponse()
        answer.read()
        if answer.status != http.HTTPStatus.NO_CONTENT:
            raise http.client.HTTPException(answer.status)
        return told


@contextlib.contextmanager
def _connection(node: Address) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(*node, timeout=5)
    try:
        yield connection
    finally:
        connection.close()
