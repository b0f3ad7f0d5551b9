"""One deployment seen from one process: settings in the store's units, the signing keys, this node's volumes."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sessionsweep.errors import ConfigurationError
from sessionsweep.model.ids import new_session_id
from sessionsweep.model.session import mac_of
from sessionsweep.observe.meter import Meter
from sessionsweep.policy import slot_width
from sessionsweep.store import operations as op
from sessionsweep.store.flow import Flow, ask
from sessionsweep.store.keys import partition_name
from sessionsweep.volumes.mounting import Mounts

if TYPE_CHECKING:
    from sessionsweep.settings import Settings


def ms(seconds: float) -> int:
    """Seconds → milliseconds."""
    return round(seconds * 1000)


@dataclass(eq=False)
class Core:
    """What flows and passes need besides the store. Cheap: nothing connects, nothing is opened."""

    settings: Settings
    mounts: Mounts = field(init=False)
    meter: Meter | None = field(init=False, default=None)  # is told what this process does
    background: bool = True  # whether an in-process sweeper may run by itself; a test calls each pass
    before_close: list[Callable[[], object]] = field(init=False, default_factory=list)  # what to stop first

    def __post_init__(self) -> None:
        s = self.settings
        self.idle = ms(s.idle_timeout)
        self.max = ms(s.max_duration)
        self.grace = ms(s.grace_period)
        self.hold = ms(s.hold)
        self.width = slot_width(s.cleanup_interval)
        self.intent_timeout = ms(s.intent_timeout)
        self.retention = ms(s.tombstone_retention)
        self.keys = s.signing_keys
        self.enforce_client = s.client_binding in ("subnet", "strict")
        self.mounts = Mounts(s.node, s.volumes, exclusive=s.in_memory)
        if s.metrics:
            self.meter = _prometheus()

    def close(self) -> None:
        """Stops what runs for this deployment in this process and lets go of its volumes. Idempotent."""
        try:
            while self.before_close:
                self.before_close.pop()()
        finally:
            self.mounts.close()

    def new_id(self) -> str:
        """A fresh session id in a partition chosen at random."""
        return new_session_id(partition_name(secrets.randbelow(self.settings.partitions)))

    def macs(self, session_id: str, secret: str) -> tuple[bytes, ...]:
        """The secret's hash under every valid key; the first is the one that signs."""
        return tuple(mac_of(secret, session_id, key) for key in self.keys)


def _prometheus() -> Meter:
    try:
        from sessionsweep.observe.prometheus import meter
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"SESSIONSWEEP_METRICS is set, and {error.name} isn't installed: pip install 'sessionsweep[metrics]'"
        ) from error
    return meter()


def partitions(core: Core) -> Flow[list[str]]:
    """Every partition that may hold something: the configured ones, and those that a larger setting used before."""
    meta = yield from ask(op.Meta())
    return [partition_name(n) for n in range(max(core.settings.partitions, int(meta.get("partitions", "1"))))]
