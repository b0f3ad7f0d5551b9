"""First sightings of what seems ownerless or gone, kept in the store: only what is seen twice is acted upon."""

from __future__ import annotations

from collections.abc import Sequence

from sessionsweep.deployment import Core, ms
from sessionsweep.engine.trust import Permit
from sessionsweep.store import operations as op
from sessionsweep.store.protocol import Store

WALKS = 3  # for so many walks a sighting waits to be confirmed


class Sightings:
    """Those on one volume, in this run of the server."""

    def __init__(self, core: Core, store: Store, permit: Permit) -> None:
        self._core = core
        self._store = store
        self._permit = permit

    def note(self, partition: str, names: Sequence[str], cap: int) -> tuple[bool, ...]:
        """Of each name, whether it was first seen at least a grace period ago; at most `cap` + 1 are remembered."""
        return self._store.execute(self._sight(partition, tuple(names), self._core.grace, cap))

    def forget(self, partition: str, names: Sequence[str]) -> None:
        """Drops what was dealt with: it makes room for others."""
        self._store.execute(self._sight(partition, (), 0, 0, tuple(names)))

    def _sight(
        self, partition: str, names: tuple[str, ...], age: int, cap: int, forget: tuple[str, ...] = ()
    ) -> op.Sight:
        ttl = ms(self._core.settings.orphan_interval) * WALKS + self._core.grace
        permit = self._permit
        return op.Sight(partition, permit.volume.id, permit.run_id, names, age, cap, ttl, forget)
