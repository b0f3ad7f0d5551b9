"""Flows that read the books of all partitions: statistics that cost the same at any number of sessions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from sessionsweep.deployment import Core, partitions
from sessionsweep.model import books
from sessionsweep.sessions.view import Stats
from sessionsweep.store import operations as op
from sessionsweep.store.flow import Flow, ask


def stats(core: Core) -> Flow[Stats]:
    """The sums over all partitions."""
    total: Counter[str] = Counter()
    imbalance = 0
    for partition in (yield from partitions(core)):
        counted = yield from ask(op.Counters(partition))
        total.update(counted)
        imbalance += abs(books.imbalance(counted))
    return sum_up(total, imbalance)


def sum_up(counters: Mapping[str, int], imbalance: int) -> Stats:
    """What the counters of all partitions (see model.books) amount to. `imbalance`: of each, added up unsigned."""
    total = Counter(counters)
    created, ended = total[books.CREATED], total[books.ENDED]
    names = {
        "registered": books.REGISTERED,
        "active": books.ACTIVE,
        "owed": books.OWED,
        "dead": books.DEAD,
        "deleted": books.DELETED,
        "gone": books.GONE,
        "promoted": books.PROMOTED,
        "forgotten": books.FORGOTTEN,
        "evicted": books.EVICTED,
    }
    return Stats(
        total_sessions_created=created,
        total_sessions_cleaned=ended,
        active_sessions=created - ended,
        avg_session_duration=total[books.LIFETIME] / 1000 / ended if ended else 0.0,
        avg_resources_per_session=total[books.REGISTERED] / created if created else 0.0,
        ended_by_reason={k.removeprefix("ended:"): v for k, v in total.items() if k.startswith("ended:")},
        resources={name: total[field] for name, field in names.items()},
        active_bytes=total[books.ACTIVE_BYTES],
        owed_bytes=total[books.OWED_BYTES],
        total_bytes_cleaned=total[books.DELETED_BYTES],
        imbalance=imbalance,
    )
