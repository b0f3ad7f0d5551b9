"""A hold: destruction is stopped, for one volume or for all, because the state can't be trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

from sessionsweep.model.rows import json_object, whole

TABLE = "holds"  # the deployment's table in which they stand
ALL = "all"
IDLE = "idle"  # idle ends and orphan destruction stop for a while; absolute and explicit ends go on
SERVER = "server"  # the server may drop keys by itself: orphan destruction stops


def volume_scope(volume_id: str) -> str:
    """The scope of one volume's hold."""
    return f"volume:{volume_id}"


def orphans_scope(volume_id: str) -> str:
    """The scope of a hold on destroying one volume's files without an owner; what is owed there is deleted."""
    return f"orphans:{volume_id}"


def mount_scope(node: str, name: str) -> str:
    """The scope of a hold on what one node should mount under a name and doesn't."""
    return f"mount:{node}/{name}"


def mark_of(marks: Mapping[str, str], meta: Mapping[str, str], volume_id: str) -> int:
    """The store's time mark (ms) that a volume's own is held against. One that has none yet, or whose mark an operator
    has overruled, has that of `meta`. What can't be read is 0, and stops destruction."""
    text = marks.get(volume_id, meta.get("high_water", ""))
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0


@dataclass(frozen=True, slots=True)
class Hold:
    """Why destruction stops. `scope`: `all`, `idle`, `server`, `volume:<id>`, `orphans:<id>`,
    `mount:<node>/<name>`. `since`: ms."""

    scope: str
    reason: str  # a short code: marker-missing, foreign-deployment, rolled-back, too-many-orphans …
    text: str  # what happened, and what lifts it
    since: int
    node: str = ""
    until: int = 0  # ms; 0: until an operator lifts it

    def encode(self) -> str:
        """As it stands in the `holds` table."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Hold:
        """From the `holds` table. A newer release's further fields are left out.

        Raises:
            TypeError: it is damaged; see `read`.
        """
        about = json_object(text)
        hold = cls(**{field.name: about[field.name] for field in fields(cls) if field.name in about})
        if whole(hold.since) < 0 or whole(hold.until) < 0:
            raise TypeError(f"{text[:80]!r} has no times")
        if not all(isinstance(word, str) for word in (hold.scope, hold.reason, hold.text, hold.node)):
            raise TypeError(f"{text[:80]!r} is no hold")
        return hold

    @classmethod
    def read(cls, scope: str, text: str) -> Hold:
        """The hold of one row of the table. One that is damaged stands until it is lifted: it may have been any."""
        try:
            return replace(cls.decode(text), scope=scope)
        except TypeError:
            what = f"This hold can't be read ({text[:80]!r}). If nothing else stands in the way: "
            return cls(scope, "unreadable", f"{what}sessionsweep holds lift {scope}", 0)

    def __str__(self) -> str:
        return f"hold on {self.scope} ({self.reason}): {self.text}"
