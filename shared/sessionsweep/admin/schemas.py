"""The bodies of the admin API, as its OpenAPI description tells them. Times are UTC in ISO 8601."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

SECONDS = "Seconds."


class Body(BaseModel):
    """A body of a request: what it doesn't know is refused, so that a misspelt word isn't overlooked."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)


class ResourceOut(BaseModel):
    """One resource of a session. `path` where the answering node knows it."""

    resource_id: str
    state: str
    kind: str
    purpose: str
    size: int
    location: str
    volume: str | None = None
    path: str | None = None
    created_at: datetime
    last_used: datetime
    tries: int = 0
    error: str = ""


class SessionOut(BaseModel):
    """A live session. `user_agent` and `ip_address` are those it was created from."""

    session_id: str
    state: str = Field(description="`live`, or `due`: dead to every request, and ended by the next sweep.")
    user_id: str | None = None
    ip_address: str | None = None
    user_agent: str | None = None
    node: str = Field("", description="Where it was created.")
    created_at: datetime
    last_activity: datetime
    duration_seconds: float
    idle_seconds: float
    expires_in_seconds: float
    request_count: int
    resource_count: int
    stream_count: int
    total_bytes_used: int
    resources: list[ResourceOut] = []


class ReceiptPlaceOut(BaseModel):
    """What became at one location of what a session had, since it ended."""

    location: str
    volume: str | None = None
    deleted: int
    bytes_deleted: int
    gone: int = Field(description="Found gone already.")
    promoted: int
    forgotten: int
    last: datetime | None = Field(description="When something left here last.")
    failures: int
    failed_at: datetime | None = None
    dead_letters: int = Field(description="How many wait for an operator.")
    error: str = Field(description="The last failure's.")
    meaning: str | None = None


class EndedSessionOut(BaseModel):
    """The receipt of an ended session: what it still owes, and what was deleted."""

    session_id: str
    state: str
    user_id: str | None = None
    reason: str | None = None
    created_at: datetime | None = None
    ended_at: datetime | None = None
    owned: int | None = Field(None, description="Resources it had, or still owed, when it ended. Null: unknown.")
    bytes_owned: int = Field(0, description="Bytes of those that it had.")
    owed: int = 0
    deleted: int = 0
    bytes_deleted: int = 0
    locations: list[ReceiptPlaceOut] = []
    resources: list[ResourceOut] = []


class ReceiptOut(BaseModel):
    """What an ended session had, and what became of it where. It still owes `owed` resources."""

    session_id: str
    user_id: str | None = None
    reason: str
    created_at: datetime | None = Field(description="Null: unknown, its record was lost.")
    ended_at: datetime
    owned: int | None = Field(description="Resources it had, or still owed, when it ended. Null: unknown.")
    bytes_owned: int = Field(description="Bytes of those that it had.")
    owed: int
    deleted: int
    bytes_deleted: int
    locations: list[ReceiptPlaceOut]


class ReceiptsOut(BaseModel):
    """A page of receipts. One that is short isn't the last unless `next_cursor` is null."""

    receipts: list[ReceiptOut]
    next_cursor: str | None = None


class TotalsOut(BaseModel):
    """The totals of the Talk2Me document."""

    total_sessions_created: int
    total_sessions_cleaned: int
    active_sessions: int
    avg_session_duration: float = Field(description="Seconds, of ended sessions.")
    avg_resources_per_session: float


class SessionsOut(BaseModel):
    """A page of sessions. One that is short isn't the last unless `next_cursor` is null."""

    sessions: list[SessionOut]
    stats: TotalsOut
    next_cursor: str | None = None
    looked_at: int
    resources_complete: bool = Field(description="False: only the first sessions' resources are listed.")


class SessionCounts(BaseModel):
    """Sessions of a deployment."""

    active: int
    total_created: int
    total_cleaned: int


class ResourceCounts(BaseModel):
    """Resources of a deployment; sizes in bytes."""

    active: int
    total_cleaned: int
    active_bytes: int
    total_bytes_cleaned: int


class Limits(BaseModel):
    """The limits; durations in seconds, sizes in bytes, null: none."""

    max_session_duration: float
    max_idle_time: float
    max_resources_per_session: int
    max_bytes_per_session: int
    max_streams_per_session: int | None = None
    max_sessions: int | None = None
    max_sessions_per_user: int | None = None


class MetricsOut(BaseModel):
    """What the Talk2Me document calls metrics; GET /metrics has far more, for Prometheus."""

    sessions: SessionCounts
    resources: ResourceCounts
    limits: Limits


class CleanupOut(BaseModel):
    """What became of an order to end a session. `ended` False: it had ended already, for `reason`."""

    success: bool = True
    session_id: str
    ended: bool
    reason: str
    owed: int = Field(description="Resources whose deletion is the workers' work now.")


class UserIn(Body):
    """Whose sessions to end, but for one."""

    user_id: str = Field(min_length=1, max_length=255)
    except_id: str | None = Field(None, description="A session that stays.")


class CountOut(BaseModel):
    """How many."""

    success: bool = True
    count: int


class ScopeIn(Body):
    """A hold's scope: all, idle, volume:ID, orphans:ID or mount:NODE/NAME."""

    scope: str = Field(min_length=1, max_length=200)


class SweepOut(BaseModel):
    """A pass that was asked for. `state`: `sent`, `running`, `done` or `failed`."""

    request_id: str
    name: str
    state: str
    node: str = ""
    at: datetime | None = None
    result: dict[str, Any] = {}
    parts: dict[str, Any] = {}


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
