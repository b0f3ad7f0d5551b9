"""Who sends a request, as a session remembers it: the address behind listed proxies, the user agent cut to a bound."""

from __future__ import annotations

from collections.abc import Sequence

from sessionsweep.integrations.forwarded import Network, client_address
from sessionsweep.model.session import Client

MAX_USER_AGENT = 300  # characters; it is stored with the session and compared, so it must be bounded


def request_client(
    peer: str | None, forwarded_for: str, user_agent: str | None, trusted: Sequence[Network] | None
) -> Client:
    """The client; for `peer`, `forwarded_for` and `trusted` see `client_address`."""
    return Client(client_address(peer, forwarded_for, trusted), (user_agent or "")[:MAX_USER_AGENT] or None)
