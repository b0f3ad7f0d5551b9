"""Which pages may use a visitor's session where no framework's protection reaches: WebSockets, and our own POST routes.

`SameSite=Lax` keeps the cookie from other sites, but all subdomains and ports of a host are one site. A handshake is a
GET that no CORS and no CSRF token guards, so the server has to look at who asks (ASVS 4.4.2).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from sessionsweep.errors import ConfigurationError

log = logging.getLogger(__name__)

#: What the refused are told, with 403.
REFUSAL = {"error": "Only this site's pages may do that."}
_PORTS = {"http": 80, "https": 443}
_Origin = tuple[str, str, int]  # scheme, host, port


@dataclass(frozen=True, slots=True)
class Sender:
    """What a request says of the page that sends it: all its `Origin` fields, `Sec-Fetch-Site` and `Host`.

    `secure`: the request is known to be https.
    """

    origins: Sequence[str]
    site: str
    host: str
    secure: bool


class Origins:
    """The request's own origin, and those that the app lists (`https://app.example`; `*` for all).

    Raises:
        ConfigurationError: an entry is no origin.
    """

    def __init__(self, listed: Iterable[str] = ()) -> None:
        if isinstance(listed, str):
            raise ConfigurationError(f"allowed_origins: give a list of origins, such as [{listed!r}]")
        entries = tuple(listed)
        self._all = "*" in entries
        self._listed = frozenset(_wanted(entry) for entry in entries if entry != "*")

    def allow(self, sender: Sender) -> bool:
        """Whether the page that sends this request may use the session.

        Programs send no `Origin`; a browser's scripts can neither leave it out nor change it, nor `Sec-Fetch-Site`
        (which is better where there is one: a proxy may have changed the host).
        """
        if self._all or sender.site == "same-origin":
            return True
        foreign = sender.site not in ("", "none")
        if not sender.origins:
            return not foreign
        origin = _parsed(sender.origins[0]) if len(sender.origins) == 1 else None
        if origin is None:  # `null`: a sandboxed frame, a file; anything else is made up
            return False
        if origin in self._listed:
            return True
        scheme = origin[0]
        if foreign or (sender.secure and scheme != "https"):
            return False  # a page in plain text is whoever sits on the wire
        # The host is compared, not the scheme: behind an unlisted proxy that speaks TLS we see http.
        return origin == _parsed(f"{scheme}://{sender.host}")

    def refuse(self, sender: Sender, path: str) -> bool:
        """Whether it may not; the log says how to allow it."""
        if self.allow(sender):
            return False
        log.warning(
            "a page of %.200r may not use the session at %.200r: its origin isn't the request's (Host: %.200r); list "
            "it in allowed_origins, or let your proxy pass the Host field on",
            ",".join(sender.origins),
            path,
            sender.host,
        )
        return True


def _parsed(text: str) -> _Origin | None:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not parts.hostname or parts.path or parts.query or parts.fragment:
        return None
    if "@" in parts.netloc:
        return None
    return parts.scheme, parts.hostname, port or _PORTS[parts.scheme]


def _wanted(entry: str) -> _Origin:
    found = _parsed(entry)
    if found is None:
        raise ConfigurationError(f"allowed_origins: {entry!r} is no origin; write it as https://app.example, or `*`")
    return found
