"""HTTP/1.1 over kept connections: as little of it as the web nodes need, so that the cores are left to them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field

Address = tuple[str, int]


class UnansweredError(Exception):
    """No whole answer came: refused, reset, or too late. Whether the request was carried out is unknown."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, read to its end. Names of header fields are in lower case; `cookies` holds each Set-Cookie."""

    status: int
    headers: dict[str, str]
    cookies: list[str]
    body: bytes


@dataclass
class _Node:
    places: asyncio.Semaphore
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)


class Connections:
    """At most `most` connections to each address (waitress takes 100); who finds none free waits, and is timed."""

    def __init__(self, most: int = 64, timeout: float = 10.0) -> None:
        self._timeout = timeout
        self._nodes: dict[Address, _Node] = defaultdict(lambda: _Node(asyncio.Semaphore(most)))

    async def request(
        self, address: Address, method: str, path: str, headers: dict[str, str], body: bytes = b""
    ) -> Answer:
        """Sends it and reads the answer.

        Raises:
            UnansweredError: see there; it says which.
        """
        node = self._nodes[address]
        async with node.places:
            pair = None
            try:
                async with asyncio.timeout(self._timeout):
                    pair = self._kept(node) or await asyncio.open_connection(*address)
                    answer = await _exchange(*pair, _head(address, method, path, headers, body) + body)
            except TimeoutError:
                raise UnansweredError("timeout") from None
            except ConnectionRefusedError:
                raise UnansweredError("refused") from None
            except (OSError, asyncio.IncompleteReadError):
                raise UnansweredError("reset") from None
            else:
                if answer.headers.get("connection", "").lower() != "close":
                    node.idle.append(pair)
                    pair = None
                return answer
            finally:
                if pair is not None:
                    pair[1].transport.abort()

    @staticmethod
    def _kept(node: _Node) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        while node.idle:
            reader, writer = node.idle.pop()
            if not reader.at_eof() and not writer.transport.is_closing():
                return reader, writer
            writer.transport.abort()
        return None

    def close(self) -> None:
        """Closes what is kept."""
        for node in self._nodes.values():
            for _, writer in node.idle:
                writer.transport.abort()
            node.idle.clear()


def _head(address: Address, method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {address[0]}:{address[1]}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Answer:
    writer.write(request)
    status, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    cookies: list[str] = []
    for line in lines:
        name, _, value = line.partition(":")
        if (name := name.lower()) == "set-cookie":
            cookies.append(value.strip())
        else:
            headers[name] = value.strip()
    code = int(status.split(" ", 2)[1])
    body = b""
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    elif code not in (204, 304):  # both apps say how long their answers are; what doesn't ends with the connection
        body = await reader.read(-1)
        headers["connection"] = "close"
    return Answer(code, headers, cookies, body)
