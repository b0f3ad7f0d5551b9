"""Sessions that an operator looks for: filtered pages that look at a bounded number of records, and renew none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from sessionsweep.deployment import Core
from sessionsweep.errors import RecordUnreadableError, StoreError
from sessionsweep.model.ids import is_session_id
from sessionsweep.operator.queries import Life, SessionCase
from sessionsweep.sessions import listing
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.protocol import Store

ROUND = 200  # records a round trip
LOOKS = 5000  # records that one call looks at: a filter that matches little must not walk for ever
RESOURCES = 5000  # resources that one page lists; of sessions behind that only the counts are told


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a session must be like; None: no matter. `idle_for` in seconds; `node`: where it was created."""

    user: str | None = None
    address: str | None = None
    node: str | None = None
    idle_for: float | None = None
    bytes_over: int | None = None
    state: Life | None = None

    def fits(self, case: SessionCase) -> bool:
        """Whether a session that hasn't ended is like that."""
        record = case.record
        return record is not None and (
            (self.user is None or record.user == self.user)
            and (self.address is None or record.ip == self.address)
            and (self.node is None or record.node == self.node)
            and (self.idle_for is None or case.now - record.last_activity >= self.idle_for * 1000)
            and (self.bytes_over is None or record.bytes_used > self.bytes_over)
            and (self.state is None or self.state is case.life)
        )

    @property
    def is_picky(self) -> bool:
        """Whether a page of sessions may hold some that don't fit."""
        return any(getattr(self, field.name) is not None for field in fields(self) if field.name != "user")


@dataclass(frozen=True, slots=True)
class Page:
    """What was found, and where to go on (None: that was all). `looked_at`: records.

    `resources_complete` False: there were so many resources that only the first sessions' are here.
    """

    cases: list[SessionCase]
    next_cursor: str | None
    looked_at: int
    resources_complete: bool = True


def find(
    core: Core, store: Store, wanted: Wanted, cursor: str | None = None, limit: int = 100, *, resources: bool = False
) -> Page:
    """At most `limit` sessions that are like that, those due first on top. A short page with a cursor is not the end.

    Raises:
        ValueError: the cursor is none that such a search returned.
    """
    found: dict[str, SessionCase] = {}
    looked = 0
    while True:
        room = min(ROUND, limit - len(found), LOOKS - looked)
        ids, cursor = run(listing.page(core, wanted.user, cursor, room), store)
        looked += len(ids)
        for case in _cases(store, list(dict.fromkeys(ids))):
            if wanted.fits(case):
                found[case.session_id] = case
        if cursor is None or len(found) >= limit or looked >= LOOKS:
            break
    cases, complete = list(found.values()), True
    if resources:
        cases, complete = with_resources(store, cases)
    return Page(cases, cursor, looked, complete)


def with_resources(store: Store, cases: Sequence[SessionCase]) -> tuple[list[SessionCase], bool]:
    """The same with their resources, up to RESOURCES of them; and whether those are all."""
    owning: list[SessionCase] = []
    room = RESOURCES
    for case in cases:
        assert case.record is not None
        room -= case.record.resource_count + case.record.stream_count
        if room < 0:
            break
        if case.record.resource_count or case.record.stream_count:
            owning.append(case)
    owned = {}
    for start in range(0, len(owning), ROUND):
        part = owning[start : start + ROUND]
        for case, reply in zip(part, store.execute_many([op.ListResources(c.session_id) for c in part]), strict=True):
            if isinstance(reply, StoreError):
                raise reply
            owned[case.session_id] = reply
    full = [SessionCase(c.session_id, c.life, c.now, c.record, c.tombstone, owned.get(c.session_id, ())) for c in cases]
    return full, room >= 0


def _cases(store: Store, ids: Sequence[str]) -> list[SessionCase]:
    cases = []
    for reply in store.execute_many([op.PeekSession(session_id) for session_id in ids if is_session_id(session_id)]):
        if isinstance(reply, RecordUnreadableError):
            continue  # `stats` and the log tell of it; it hides no other
        if isinstance(reply, StoreError):
            raise reply
        record = reply.record
        if record is not None:
            life = Life.DUE if reply.is_due else Life.LIVE
            cases.append(SessionCase(record.session_id, life, reply.now, record, None, ()))
    return cases
