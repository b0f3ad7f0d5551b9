"""Who is logged in to the dashboard: a signed cookie that names a grant, and never holds its token.

Signed and not kept here, so that several processes of one deployment know a visitor. The key hangs on the configured
tokens, too: taking one away ends every visit.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sessionsweep.admin.access import Grant, Scope, parse_grants
from sessionsweep.settings import Settings

IDLE = 3600  # seconds without a page that somebody asked for; a page that renews itself doesn't count
LONGEST = 12 * 3600  # seconds from the log-in
RENEW = 60  # seconds after which the cookie is written anew
REMEMBERED = 10_000  # visits that were logged out of
_COOKIE = re.compile(r"([0-9a-f]{16})\.([A-Za-z0-9_-]{22})\.([0-9]{1,12})\.([0-9]{1,12})\.([0-9a-f]{64})\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Visit:
    """One log-in: by which grant, when it began, and the last page that was asked for (s since the epoch)."""

    id: str
    grant: Grant
    began: int
    seen: int

    @property
    def may_write(self) -> bool:
        """Whether its token allows changes."""
        return self.grant.scope is Scope.WRITE


class Visits:
    """Begins, reads and ends visits. Safe in any number of threads; `clock` tells seconds since the epoch."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        assert settings.admin_token is not None, "the doorkeeper refuses to start without"
        self._grants = {_name(grant): grant for grant in parse_grants(settings.admin_token.get_secret_value())}
        tokens = "".join(f"{name} {g.digest.hex()} {g.scope} {g.until}\n" for name, g in sorted(self._grants.items()))
        key = settings.signing_keys[0] if settings.signing_keys else secrets.token_bytes(32)
        self._key = hmac.digest(key, f"admin pages\n{tokens}".encode(), "sha256")
        self._clock = clock
        self._over: OrderedDict[str, None] = OrderedDict()
        self._ending = threading.Lock()

    def begin(self, grant: Grant) -> Visit:
        """A new visit of whoever showed that grant's token."""
        now = int(self._clock())
        return Visit(secrets.token_urlsafe(16), grant, now, now)

    def cookie(self, visit: Visit) -> str:
        """What the browser keeps."""
        said = f"{_name(visit.grant)}.{visit.id}.{visit.began}.{visit.seen}"
        return f"{said}.{self._mac('visit', said)}"

    def read(self, cookie: str | None) -> Visit | None:
        """The visit of a cookie; None: there is none, it isn't ours, or it is over."""
        found = _COOKIE.match(cookie or "")
        if found is None:
            return None
        name, visit_id, began, seen, mac = found.groups()
        if not hmac.compare_digest(mac, self._mac("visit", found.string.rpartition(".")[0])):
            return None
        grant, now = self._grants.get(name), self._clock()
        if grant is None or visit_id in self._over or now >= min(int(seen) + IDLE, int(began) + LONGEST):
            return None
        if grant.until is not None and datetime.fromtimestamp(now, UTC) >= grant.until:
            return None
        return Visit(visit_id, grant, int(began), int(seen))

    def renewed(self, visit: Visit) -> Visit | None:
        """The visit as seen now; None: too soon for another cookie."""
        now = int(self._clock())
        return replace(visit, seen=now) if now - visit.seen >= RENEW else None

    def end(self, visit: Visit) -> None:
        """Logs out: this process takes its cookie no more, should anybody have copied it."""
        with self._ending:
            self._over[visit.id] = None
            while len(self._over) > REMEMBERED:
                self._over.popitem(last=False)

    def is_ended(self, visit: Visit) -> bool:
        """Whether it was logged out of, here."""
        return visit.id in self._over

    def form_token(self, visit: Visit) -> str:
        """What each form of this visit carries, and no other site can know."""
        return self._mac("form", visit.id)

    def is_form_token(self, visit: Visit, said: str) -> bool:
        """Whether a form is one of this visit's."""
        return hmac.compare_digest(said.encode("utf-8", "replace"), self.form_token(visit).encode())

    def _mac(self, purpose: str, text: str) -> str:
        return hmac.new(self._key, f"{purpose}\n{text}".encode(), hashlib.sha256).hexdigest()


def _name(grant: Grant) -> str:
    return grant.digest.hex()[:16]
