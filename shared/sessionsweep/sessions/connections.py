"""The flow that finds the streams which a user's sessions have open on any node."""

from __future__ import annotations

from sessionsweep.deployment import Core
from sessionsweep.model.resource import KINDS
from sessionsweep.sessions import files, listing
from sessionsweep.sessions.view import Connection
from sessionsweep.store.flow import Flow
from sessionsweep.units import moment

PAGE = 100  # sessions


def connections(core: Core, user: str) -> Flow[list[Connection]]:
    """Oldest first. Costs two questions a session of this user."""
    found: list[Connection] = []
    cursor: str | None = None
    while True:
        sessions, cursor = yield from listing.live(core, user, cursor, PAGE)
        for record, _ in sessions:
            if not record.stream_count:
                continue
            for one in (yield from files.listed(record.session_id)):
                if one.kind == KINDS["stream"]:
                    process = one.location.removeprefix("p.")
                    opened = moment(one.created)
                    found.append(Connection(one.resource_id, record.session_id, one.purpose, opened, process))
        if cursor is None:
            return sorted(found, key=lambda connection: connection.opened_at)
