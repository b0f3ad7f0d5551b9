"""Receipts of ended sessions, page by page: what each had, and what became of it where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sessionsweep.deployment import Core, partitions
from sessionsweep.model.session import Tombstone
from sessionsweep.store import operations as op
from sessionsweep.store.flow import Flow, ask, run
from sessionsweep.store.protocol import Store

LOOKS = 20  # slices that one call looks at: a walk over a store full of other keys must not last for ever
_CURSOR = re.compile(r"([0-9a-f]{2})\.([0-9]{1,20})(?:\.([0-9a-z]{20}))?\Z")


@dataclass(frozen=True, slots=True)
class ReceiptPage:
    """What was found, and where to go on (None: that was all). A short page with a cursor is not the end."""

    receipts: tuple[Tombstone, ...]
    next_cursor: str | None


def page(core: Core, cursor: str | None = None, since: float | None = None, limit: int = 100) -> Flow[ReceiptPage]:
    """At most `limit` sessions that ended and owned something, in no order; `since`: in the last so many seconds.

    Each that is there throughout is found at least once; now and then one is found twice.

    Raises:
        ValueError: the cursor is none that this listing returned.
    """
    names = yield from partitions(core)
    partition, place, after = _place(cursor, names)
    earliest = 0 if since is None else (yield from ask(op.Facts())).now - round(since * 1000)
    found: list[Tombstone] = []
    for _ in range(LOOKS):
        following, slice_ = yield from ask(op.Receipts(partition, place))
        # a slice that doesn't fit is asked for again, and gone on in behind the last that did: hence its order
        fresh = sorted((one for one in slice_ if one.session_id > after), key=lambda one: one.session_id)
        for number, one in enumerate(fresh):
            if one.ended >= earliest:
                found.append(one)
            if len(found) == limit and number + 1 < len(fresh):
                return ReceiptPage(tuple(found), f"{partition}.{place}.{one.session_id}")
        after, place = "", following
        if place == 0:
            later = [name for name in names if name > partition]
            if not later:
                return ReceiptPage(tuple(found), None)
            partition = min(later)
        if len(found) >= limit:
            break
    return ReceiptPage(tuple(found), f"{partition}.{place}")


def every(core: Core, store: Store, since: float | None = None) -> Iterator[Tombstone]:
    """All of them, one after the other; no more than a page is held in memory."""
    cursor = None
    while True:
        seen = run(page(core, cursor, since, limit=1000), store)
        yield from seen.receipts
        if seen.next_cursor is None:
            return
        cursor = seen.next_cursor


def _place(cursor: str | None, names: list[str]) -> tuple[str, int, str]:
    if cursor is None:
        return min(names), 0, ""
    match = _CURSOR.match(cursor)
    if match is None or match[1] not in names or int(match[2]) >= 2**64:
        raise ValueError("no cursor of receipts")
    return match[1], int(match[2]), match[3] or ""
