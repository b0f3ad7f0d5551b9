"""A hold: destruction is stopped, for one volume or for all, because the state can't be trusted."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

ALL = "all"
IDLE = "idle"  # idle ends and orphan destruction stop for a while; absolute and explicit ends go on


def volume_scope(volume_id: str) -> str:
    """The scope of one volume's hold."""
    return f"volume:{volume_id}"


def mount_scope(node: str, name: str) -> str:
    """The scope of a hold on what one node should mount under a name and doesn't."""
    return f"mount:{node}/{name}"


@dataclass(frozen=True, slots=True)
class Hold:
    """Why destruction is stopped. `scope`: `all`, `idle`, `volume:<id>` or `mount:<node>/<name>`; `since`: ms."""

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
        """From the `holds` table."""
        return cls(**json.loads(text))

    def __str__(self) -> str:
        return f"hold on {self.scope} ({self.reason}): {self.text}"
