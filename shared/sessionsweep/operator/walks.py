"""What lies on each volume, as the last whole orphan walk found it: with an owner or without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sessionsweep.engine.orphans import Scan
from sessionsweep.store import operations as op
from sessionsweep.store.protocol import Store


@dataclass(frozen=True, slots=True)
class Walk:
    """Of one volume."""

    files: int
    bytes: int
    seconds_ago: float  # since it ended, by the store's clock


def last(store: Store, now: int) -> Mapping[str, Walk]:
    """By volume id; none where no walk came to its end yet, or its row can't be understood. `now`: the store's (ms).

    Raises:
        StoreError: the store doesn't answer.
    """
    found = {}
    for volume_id, row in store.execute(op.Table("scans")).items():
        try:
            scan = Scan.decode(row)
        except TypeError:
            continue  # the next walk writes it anew
        if scan.walked_at > 0:
            ago = max(0.0, (now - scan.walked_at) / 1000)
            found[volume_id] = Walk(max(0, scan.walked_files), max(0, scan.walked_bytes), ago)
    return found
