"""When a process counts as ready: a port accepts, an address answers, a line is logged, a function agrees."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass

from .ports import LOOPBACK

_ATTEMPT = 2.0  # seconds that one try may take


@dataclass(frozen=True, slots=True)
class Readiness:
    """How to tell that a process is ready: its log has a matching line, or `check()` is true; else at once.

    `check` runs in a thread of its own, again and again; what it raises counts as "not yet".
    After `timeout` seconds the process counts as failed.
    """

    check: Callable[[], bool] | None = None
    log: re.Pattern[str] | None = None
    timeout: float = 60.0


AT_ONCE = Readiness()


def accepts(port: int, timeout: float = 60.0) -> Readiness:
    """Ready when something accepts connections on this port of loopback."""

    def check() -> bool:
        with socket.create_connection((LOOPBACK, port), timeout=_ATTEMPT):
            return True

    return Readiness(check, timeout=timeout)


def answers(port: int, path: str, timeout: float = 60.0) -> Readiness:
    """Ready when `GET path` on this port of loopback is answered with 200."""

    def check() -> bool:
        # Not urllib: a proxy from the environment has no business on loopback.
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_ATTEMPT)
        try:
            connection.request("GET", path, headers={"User-Agent": "sessionsweep-up"})
            return connection.getresponse().status == http.HTTPStatus.OK
        finally:
            connection.close()

    return Readiness(check, timeout=timeout)


def logs(pattern: str, timeout: float = 60.0) -> Readiness:
    """Ready when a line of its output matches this regular expression."""
    return Readiness(log=re.compile(pattern), timeout=timeout)
