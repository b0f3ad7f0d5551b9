"""What a session and its resources look like to an application: values read from the record, no input or output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sessionsweep.model.resource import KIND_NAMES, ResourceRecord
from sessionsweep.model.session import SessionRecord
from sessionsweep.sessions.lifecycle import encode_data
from sessionsweep.units import moment


@dataclass(frozen=True, slots=True)
class Resource:
    """One thing that a session owns. Times are aware datetimes in UTC, `size` is bytes."""

    id: str
    kind: str
    purpose: str
    size: int
    created_at: datetime
    last_used: datetime
    location: str

    @classmethod
    def of(cls, record: ResourceRecord) -> Resource:
        """From the store's record."""
        return cls(
            record.resource_id,
            KIND_NAMES[record.kind],
            record.purpose,
            record.size,
            moment(record.created),
            moment(record.used),
            record.location,
        )


@dataclass(frozen=True, slots=True)
class Connection:
    """An open stream as anybody may see it. `process` is `<node>.<pid>.<start>`: who holds its socket."""

    id: str
    session_id: str
    purpose: str
    opened_at: datetime
    process: str


class SessionView:
    """The readable side of a session: as it was at `read_at`, the store's time of the last call.

    `by_token`: it was opened with a token, so that nothing is saved once another one has taken its place. Trusted code
    that knows the id alone (a job, an operator) isn't asked for one.
    """

    def __init__(self, record: SessionRecord, now: int, *, by_token: bool = False) -> None:
        self._by_token = by_token
        self._record = record
        self._now = now
        self._saved: Mapping[str, bytes] = record.data
        self.data: dict[str, Any] = {key: json.loads(value) for key, value in record.data.items()}

    @property
    def id(self) -> str:
        """The public id: safe in logs and URLs; knowing it allows nothing."""
        return self._record.session_id

    @property
    def user(self) -> str | None:
        """Whose session it is since `log_in`."""
        return self._record.user

    @property
    def created_at(self) -> datetime:
        """When it began (UTC)."""
        return moment(self._record.created)

    @property
    def last_activity(self) -> datetime:
        """When it was last touched (UTC)."""
        return moment(self._record.last_activity)

    @property
    def read_at(self) -> datetime:
        """The store's time when this was read (UTC)."""
        return moment(self._now)

    @property
    def request_count(self) -> int:
        """Requests that opened it, the first included."""
        return self._record.request_count

    @property
    def resource_count(self) -> int:
        """Files and objects it owned when it was read."""
        return self._record.resource_count

    @property
    def stream_count(self) -> int:
        """Open streams it owned when it was read."""
        return self._record.stream_count

    @property
    def bytes_used(self) -> int:
        """Bytes of its files, written or reserved, when it was read."""
        return self._record.bytes_used

    @property
    def ip(self) -> str | None:
        """The address that it was created from."""
        return self._record.ip

    @property
    def user_agent(self) -> str | None:
        """The user agent that it was created from."""
        return self._record.user_agent

    @property
    def expires_in(self) -> float:
        """Seconds left, if nothing touches it again; 0 when it is due."""
        idle_end = self._record.idle_end
        if idle_end <= self._now:  # it is here nevertheless: idle ends are held, until its client touches it
            idle_end = self._now + self._record.idle
        return max(0, min(idle_end, self._record.absolute_end) - self._now) / 1000

    @property
    def _mac(self) -> bytes:
        """The hash of the secret that it was opened with; empty for trusted code."""
        return self._record.mac if self._by_token else b""

    def _changes(self) -> dict[str, bytes | None]:
        encoded = encode_data(self.data)
        changes: dict[str, bytes | None] = {k: v for k, v in encoded.items() if self._saved.get(k) != v}
        changes.update({key: None for key in self._saved if key not in encoded})
        return changes

    def _renewed(self, record: SessionRecord, now: int, *, data: bool = False) -> None:
        self._record, self._now = record, now
        if data:
            self._saved = record.data
            self.data = {key: json.loads(value) for key, value in record.data.items()}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} user={self.user!r} resources={self.resource_count}>"


@dataclass(frozen=True, slots=True)
class Stats:
    """Sessions and resources, from the books: the cost is the same at any size."""

    total_sessions_created: int
    total_sessions_cleaned: int
    active_sessions: int
    avg_session_duration: float  # seconds, of ended sessions
    avg_resources_per_session: float
    ended_by_reason: Mapping[str, int]
    resources: Mapping[str, int]  # registered, active, owed, dead, deleted, gone, promoted, forgotten, evicted
    active_bytes: int
    owed_bytes: int
    total_bytes_cleaned: int
    imbalance: int  # registered − everything it became, of each partition, unsigned: 0 unless one was lost
