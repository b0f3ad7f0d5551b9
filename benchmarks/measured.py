"""P18: what it costs a request that its process measures itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from benchmarks.deployment import Deployment
from benchmarks.goals import Goal, Row, Scale, per_second
from benchmarks.measure import interleaved
from sessionsweep import Sessions
from sessionsweep.observe.prometheus import measure
from sessionsweep.sessions import lifecycle
from sessionsweep.sessions.sync import NOBODY, Session
from sessionsweep.store.flow import run

MANY = 1000  # sessions


def measured(scale: Scale) -> list[Row]:
    """The same opens, by two objects over one store: measured, and not; and by the flow without its decorator."""
    with Deployment() as d:
        plain, other = d.sessions, Sessions(d.settings, store=d.store)
        measure(other, CollectorRegistry())
        tokens = itertools.cycle([plain.create()[1] for _ in range(MANY)])
        bare = lifecycle.open_session.__wrapped__  # type: ignore[attr-defined]

        def undecorated() -> Session:
            return Session(plain, *run(bare(plain.core, next(tokens), NOBODY), plain.store), by_token=True)

        sides: dict[str, Callable[[], object]] = {
            "on": lambda: other.open(next(tokens)),
            "off": lambda: plain.open(next(tokens)),
            "bare": undecorated,
        }
        t = interleaved(sides, rounds=scale.rounds * 2, calls=200)
    return [
        Row("P18", "open, measured, against not measured", per_second(t.rate("on")), per_second(t.rate("off")),
            t.ratio("on", "off"), Goal(least=0.8)),
        Row("P18", "… not measured, against code that can't measure", per_second(t.rate("off")),
            per_second(t.rate("bare")), t.ratio("off", "bare"), Goal(least=0.95)),
    ]  # fmt: skip
