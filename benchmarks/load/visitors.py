"""Visitors of the app, each with a record of its own of what it was told; whatever contradicts that record is wrong."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from benchmarks.load.http11 import Address, Answer, Connections, UnansweredError

#: The mix, in shares of 100. Who has no session creates one, by its first upload; who leaves just never comes back.
MIX = {"serve": 30, "list": 30, "look": 10, "upload": 17, "delete": 3, "log-out": 4, "leave": 6}
MOST_FILES = 40  # then a visitor logs out: far below the limit, at which files would rightly go
SMALLEST, LARGEST = 1_000, 16_000  # bytes of an upload
BOUNDARY = "visitor-boundary-7MA4YWxkTrZu0gW"
PATIENCE = 0.8  # of the idle time-out: a session that nothing renewed for longer may rightly have ended
CAME_BACK = "came back after over half the idle time-out"
ENDED = "ended by a long silence"


@dataclass(frozen=True, slots=True)
class Rest:
    """After `share` of their actions visitors stay away for a time drawn between `shortest` and `longest`, both in
    shares of the idle time-out."""

    share: float
    shortest: float
    longest: float


#: Without them everybody is back within seconds, and a product that ends sessions far too early passes. After the first
#: the session must be there; the second end about when it ends, or after.
RESTS = (Rest(0.10, 0.0, 0.75), Rest(0.02, 0.9, 1.3))


def away(rests: Sequence[Rest], rate: float, idle_timeout: float) -> float:
    """How many visitors rest at a moment, on average, where all together act `rate` times a second."""
    return sum(rate * one.share * (one.shortest + one.longest) / 2 * idle_timeout for one in rests)


class UnwantedError(Exception):
    """The app answered, but not as it should have; the text says with what."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that the app said it has."""

    seed: int
    size: int

    @property
    def content(self) -> bytes:
        """Its bytes, made again."""
        return random.Random(self.seed).randbytes(self.size)


@dataclass
class Record:
    """What all visitors together saw: counts, and what can't be excused."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Visitor:
    """One browser: a cookie, a session, its files. One request at a time.

    Args:
        idle_timeout: of the deployment, seconds.
        rests: after which actions it stays away for a while.
    """

    def __init__(
        self,
        number: int,
        seed: str,
        nodes: Sequence[Address],
        record: Record,
        idle_timeout: float,
        rests: Sequence[Rest] = (),
    ) -> None:
        self.dice = random.Random(f"{seed} visitor {number}")
        self._nodes, self._record, self._idle_timeout, self._rests = nodes, record, idle_timeout, rests
        self._begin()

    def _begin(self) -> None:
        self.cookies: dict[str, str] = {}
        self.session_id = ""
        self.files: dict[str, Upload] = {}
        self.renewed = 0.0  # when the last request began that certainly renewed the session
        self.unclear = 0  # uploads whose answer never came

    @property
    def alive(self) -> bool:
        """Whether its session must still be there."""
        return bool(self.session_id) and time.monotonic() - self.renewed < PATIENCE * self._idle_timeout

    def rest(self) -> float:
        """How long it stays away after an action, seconds."""
        drawn = self.dice.random() if self._rests else 1.0
        for one in self._rests:
            if drawn < one.share:
                return self.dice.uniform(one.shortest, one.longest) * self._idle_timeout
            drawn -= one.share
        return 0.0

    async def act(self, http: Connections) -> str:
        """One action of the mix; its name.

        Raises:
            UnansweredError, UnwantedError: it failed.
        """
        what = self.dice.choices(list(MIX), list(MIX.values()))[0]
        if self.session_id and len(self.files) >= MOST_FILES:
            what = "log-out"
        if what == "leave":
            self._begin()
        if not self.session_id:
            what = "create"
        elif what in ("serve", "delete") and not self.files:
            what = "upload"
        self._record.counts[what] += 1
        do = {"serve": self._serve, "list": self._list, "look": self._look, "delete": self._delete,
              "log-out": self._log_out}.get(what, self._upload)  # fmt: skip
        try:
            await do(http, self.dice.choice(self._nodes))
        except (UnansweredError, UnwantedError):
            if not self.session_id:
                self._begin()  # a session of which nothing is known
            raise
        return what

    async def _upload(self, http: Connections, node: Address) -> None:
        upload = Upload(self.dice.getrandbits(48), self.dice.randint(SMALLEST, LARGEST))
        head = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{upload.seed}.wav"\r\n'
            "Content-Type: audio/wav\r\n\r\n"
        )
        body = head.encode() + upload.content + f"\r\n--{BOUNDARY}--\r\n".encode()
        self.unclear += 1
        begun = time.monotonic()
        answer = await self._ask(http, node, "POST", "/files", body, f"multipart/form-data; boundary={BOUNDARY}")
        told = self._json(answer, 201)
        if self.session_id and told["session_id"] != self.session_id:
            self._ended("an upload went to another session")
            self._begin_with(answer)
        self.unclear -= 1
        self.session_id = told["session_id"]
        self._renewed(begun)
        self.files[told["resource_id"]] = upload
        self._record.counts["files told"] += 1
        if told["size"] != upload.size:
            self._wrong(f"stored {told['size']} of {upload.size} bytes")

    def _begin_with(self, answer: Answer) -> None:
        self._begin()
        self.unclear = 1
        self._keep_cookies(answer)

    async def _list(self, http: Connections, node: Address) -> None:
        begun = time.monotonic()
        told = self._json(await self._ask(http, node, "GET", "/files"), 200)
        if told["session_id"] != self.session_id:
            self._ended("a list says that the session is no more")
            return
        listed = {one["resource_id"] for one in told["files"]}
        if missing := self.files.keys() - listed:
            self._wrong(f"{len(missing)} files are not listed: {sorted(missing)[:2]}")
        if len(listed - self.files.keys()) > self.unclear:
            self._wrong("files are listed that nobody uploaded")
        self._renewed(begun)

    async def _serve(self, http: Connections, node: Address) -> None:
        rid = self.dice.choice(list(self.files))
        begun = time.monotonic()
        answer = await self._ask(http, node, "GET", f"/files/{rid}")
        if answer.status == 307:
            target = urlsplit(answer.headers["location"])
            address = (str(target.hostname), int(target.port or 80))
            answer = await self._ask(http, address, "GET", f"{target.path}?{target.query}")
        if answer.status == 404:
            self._ended(f"the file {rid} is not found")
            return
        self._expect(answer, 200)
        self._renewed(begun)
        if answer.body != self.files[rid].content:
            self._wrong(f"the file {rid} has other bytes")

    async def _look(self, http: Connections, node: Address) -> None:
        told = self._json(await self._ask(http, node, "GET", "/session"), 200)
        if told["session_id"] != self.session_id:
            self._ended("a look says that the session is no more")

    async def _delete(self, http: Connections, node: Address) -> None:
        rid = self.dice.choice(list(self.files))
        del self.files[rid]
        self.unclear += 1
        begun = time.monotonic()
        answer = await self._ask(http, node, "DELETE", f"/files/{rid}")
        if answer.status == 404:
            self._ended(f"the file {rid} can't be deleted: not found")
            return
        self._expect(answer, 204)
        self.unclear -= 1
        self._renewed(begun)

    async def _log_out(self, http: Connections, node: Address) -> None:
        cookies, session_id = dict(self.cookies), self.session_id
        try:
            self._expect(await self._ask(http, node, "POST", "/logout"), 204)
            self.cookies = cookies  # once more, on some node: they must be worth nothing
            told = self._json(await self._ask(http, self.dice.choice(self._nodes), "GET", "/session"), 200)
        finally:
            self._begin()
        if told["session_id"] == session_id:
            self._wrong(f"{session_id} was logged out and answers")

    # the record

    def _renewed(self, begun: float) -> None:
        """A request that began then has certainly renewed the session."""
        if self.renewed and begun - self.renewed > self._idle_timeout / 2:
            self._record.counts[CAME_BACK] += 1
        self.renewed = begun

    def _ended(self, how: str) -> None:
        """The session, or a file of it, isn't there: excused only where nothing renewed it for long."""
        if self.alive:
            self._wrong(how)
        else:
            self._record.counts[ENDED] += 1
        self._begin()

    def _wrong(self, how: str) -> None:
        ago = time.monotonic() - self.renewed
        self._record.wrong.append(f"{time.strftime('%H:%M:%S')} {self.session_id}, renewed {ago:.1f} s ago: {how}")

    # HTTP

    async def _ask(
        self, http: Connections, node: Address, method: str, path: str, body: bytes = b"", kind: str = ""
    ) -> Answer:
        headers = {"Content-Type": kind} if kind else {}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = await http.request(node, method, path, headers, body)
        if answer.status < 400:
            self._keep_cookies(answer)
        return answer

    def _keep_cookies(self, answer: Answer) -> None:
        for line in answer.cookies:
            name, _, value = line.partition(";")[0].partition("=")
            if value and "max-age=0" not in line.lower() and "01 jan 1970" not in line.lower():
                self.cookies[name] = value
            else:
                self.cookies.pop(name, None)

    def _json(self, answer: Answer, status: int) -> dict:
        self._expect(answer, status)
        return json.loads(answer.body)

    @staticmethod
    def _expect(answer: Answer, status: int) -> None:
        if answer.status != status:
            raise UnwantedError(str(answer.status))
