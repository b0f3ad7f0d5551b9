"""Which nodes' workers are alive, by their heartbeats, and which volumes each mounts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sessionsweep.deployment import Core
from sessionsweep.model.rows import json_object, whole
from sessionsweep.store import operations as op
from sessionsweep.store.flow import Flow, ask
from sessionsweep.volumes.space import Space

SILENCE = 30.0  # seconds without a heartbeat, which comes every 5, after which a worker counts as silent


@dataclass(frozen=True, slots=True)
class Node:
    """A node by its worker's last heartbeat: how long ago (s), and what it mounted then (volume id → its name there).

    `space`: volume id → how full its disk is; it is looked at once in a cleanup interval, and missing where an older
    release's worker beats or the disk doesn't say. `unwritable`: volume id → the error's name, where the last write of
    that interval failed. `readable` False: its row is damaged, so it may be anything.
    """

    name: str
    seen_seconds_ago: float
    alive: bool
    volumes: Mapping[str, str] = field(default_factory=dict)
    readable: bool = True
    space: Mapping[str, Space] = field(default_factory=dict)
    unwritable: Mapping[str, str] = field(default_factory=dict)


def listed(core: Core) -> Flow[list[Node]]:
    """Every node that a worker has told of in the last week, by name."""
    facts = yield from ask(op.Facts())
    rows = yield from ask(op.Table("n"))
    return [_read(name, row, facts.now, silence(core)) for name, row in sorted(rows.items())]


def silence(core: Core) -> float:
    """Seconds without a heartbeat after which a worker is called silent. A sweeper in a web process beats with its
    rounds only."""
    s = core.settings
    return SILENCE if s.sweeper == "workers" else max(SILENCE, 2 * s.cleanup_interval)


def _read(name: str, row: str, now: int, silent_after: float) -> Node:
    about = json_object(row)
    at, mounted = whole(about.get("at")), about.get("volumes")
    if at < 0 or not isinstance(mounted, dict):
        return Node(name, 0.0, False, readable=False)
    ago = max(0.0, (now - at) / 1000)
    known = not about.get("unknown")  # upkeep's row in place of one that it couldn't read
    volumes = {volume_id: called for volume_id, called in mounted.items() if isinstance(called, str)}
    alive = known and ago <= silent_after
    return Node(name, ago, alive, volumes, known, _space(about.get("space")), _errors(about.get("unwritable")))


def _errors(told: object) -> dict[str, str]:
    rows = told.items() if isinstance(told, dict) else ()
    return {volume_id: error[:20] for volume_id, error in rows if isinstance(error, str)}


def _space(told: object) -> dict[str, Space]:
    found = {}
    for volume_id, row in told.items() if isinstance(told, dict) else ():
        used, free = (whole(row.get(word)) if isinstance(row, dict) else -1 for word in ("used", "free"))
        if used >= 0 and free >= 0:
            found[volume_id] = Space(used, free)
    return found
