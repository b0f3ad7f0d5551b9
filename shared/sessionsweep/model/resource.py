"""A resource as the store returns it, and the names of the locations where resources are reclaimed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sessionsweep.model.states import ResourceState

KINDS = {"file": "f", "stream": "s", "object": "o", "other": "x"}
KIND_NAMES = {letter: name for name, letter in KINDS.items()}

#: v.<volume id>, p.<process>, b.<bucket>, x.<an app's reclaimer>
LOCATION = re.compile(r"[vpbx]\.[A-Za-z0-9][A-Za-z0-9._-]{0,126}\Z")


def volume_location(volume_id: str) -> str:
    """The location of what lies on a volume."""
    return f"v.{volume_id}"


def process_location(process: str) -> str:
    """The location of the streams that one incarnation of a web process holds open."""
    return f"p.{process}"


@dataclass(frozen=True, slots=True)
class ResourceRecord:
    """One resource's record. Times are milliseconds of the server's clock; `size`: bytes (an intent's: reserved)."""

    resource_id: str
    state: ResourceState
    kind: str  # a letter of KINDS
    location: str
    size: int
    created: int
    used: int
    until: int  # intent: overdue then; live: pinned until; owed: next attempt; dead: since
    tries: int = 0
    purpose: str = ""
    error: str = ""

    def __str__(self) -> str:
        kind = KIND_NAMES.get(self.kind, self.kind)
        return f"{kind} {self.resource_id} ({self.purpose or 'no purpose'}, {self.size} bytes)"
