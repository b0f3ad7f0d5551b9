"""A request's headers read, a response's headers changed: the cookie, `Vary`, `Cache-Control`."""

from __future__ import annotations

from dataclasses import dataclass

from sessionsweep.integrations.asgi.types import Message, Scope
from sessionsweep.integrations.cookies import cookie_value

NAME = "sessionsweep"
HOST_NAME = "__Host-sessionsweep"  # browsers take it only with Secure, for path / and no domain (ASVS 3.3.3)
_REMOVED = "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"


def joined(scope: Scope, name: bytes, separator: str = ",") -> str:
    """All of a request's fields of a name (in lower case), in their order."""
    return separator.join(value.decode("latin-1") for key, value in scope["headers"] if key == name)


@dataclass(frozen=True, slots=True)
class Cookie:
    """The cookie as one request's scheme wants it. It lasts as long as the browser runs: the server says how long."""

    name: str
    secure: bool

    def token(self, scope: Scope) -> str | None:
        """The token that the client sent."""
        return cookie_value(joined(scope, b"cookie", ";"), self.name)

    def carry(self, token: str | None) -> str:
        """The Set-Cookie field that hands out a token, or, with None, removes it."""
        attributes = "; Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if self.secure else "")
        return f"{self.name}={token or ''}{attributes}" + ("" if token else _REMOVED)


def vary_by_cookie(start: Message) -> None:
    """Tells caches that another cookie gets another answer."""
    named = {
        field.strip().lower()
        for key, value in start["headers"]
        if key.lower() == b"vary"
        for field in value.decode("latin-1").split(",")
    }
    if not named & {"cookie", "*"}:
        start["headers"].append((b"vary", b"Cookie"))


def forbid_caching(start: Message) -> None:
    """Over whatever the view said: a cache that kept this would hand one client's token to the next.

    (Flask's CVE-2023-30861.) `Vary` is not enough: some caches ignore it, and a first request has no cookie.
    """
    start["headers"] = [(key, value) for key, value in start["headers"] if key.lower() != b"cache-control"]
    start["headers"].append((b"cache-control", b"private, no-store"))


def keep_private(start: Message) -> None:
    """Unless the view said something itself."""
    if not any(key.lower() == b"cache-control" for key, _ in start["headers"]):
        start["headers"].append((b"cache-control", b"private"))
