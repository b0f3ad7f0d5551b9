"""Pages of sessions: every live one in due order, or a user's; by cursors that hold while sessions come and go."""

from __future__ import annotations

import logging

from sessionsweep.deployment import Core, partitions
from sessionsweep.errors import RecordUnreadableError
from sessionsweep.model.ids import is_session_id
from sessionsweep.sessions.lifecycle import Found
from sessionsweep.store import operations as op
from sessionsweep.store.flow import Flow, ask
from sessionsweep.store.keys import partition_name

log = logging.getLogger(__name__)


def live(core: Core, user: str | None, cursor: str | None, limit: int) -> Flow[tuple[list[Found], str | None]]:
    """A page of live sessions and the cursor of the next one (None: the end). A page may be short.

    A cursor says by what stood there where a page ended, not by how many came before: those may leave.
    """
    ids, following = yield from page(core, user, cursor, limit)
    found = []
    for session_id in dict.fromkeys(ids):
        try:
            peeked = yield from ask(op.PeekSession(session_id))
        except RecordUnreadableError as error:
            log.warning("left out of a listing: %s", error)
            continue
        record = peeked.record
        if record is not None and not peeked.is_due and (user is None or record.user == user):
            found.append((record, peeked.now))
    return found, following


def page(core: Core, user: str | None, cursor: str | None, limit: int) -> Flow[tuple[list[str], str | None]]:
    """Ids of at most `limit` sessions, live or due, and the cursor of the next page (None: the end).

    Raises:
        ValueError: the cursor is none of this listing's, or the limit is under 1.
    """
    if limit < 1:
        raise ValueError(f"limit={limit} must be at least 1: an empty page leads nowhere")
    return (yield from (_filed(core, cursor, limit) if user is None else _bound_to(user, cursor, limit)))


def _bound_to(user: str, cursor: str | None, limit: int) -> Flow[tuple[list[str], str | None]]:
    """Ids in a user's book and the next page's cursor, `<at>.<session id>`."""
    since, dot, after = (cursor or "0.").partition(".")
    if not dot:
        raise _no_cursor(cursor)
    places = yield from ask(op.BookPage(user, _number(since, cursor), _id_or_none(after, cursor), limit))
    ids = [place.session_id for place in places if is_session_id(place.session_id)]
    if len(places) < limit:
        return ids, None
    last = places[-1]
    return ids, f"{last.at}.{last.session_id}" if last.session_id in ids else f"{last.at + 1}."


def _filed(core: Core, cursor: str | None, limit: int) -> Flow[tuple[list[str], str | None]]:
    """Ids in the wheel and the next page's cursor, `<partition>.<slot>.<offset>.<session id>`."""
    parts = (cursor or "0.0.0.").split(".")
    if len(parts) != 4:
        raise _no_cursor(cursor)
    partition, slot, offset = (_number(part, cursor) for part in parts[:3])
    after = _id_or_none(parts[3], cursor)
    ids, slot, offset = yield from ask(op.ListWheel(partition_name(partition), slot, offset, limit, after))
    if slot == 0:
        partition, offset = partition + 1, 0
    # partitions that an earlier, larger setting used hold sessions too
    if partition >= len((yield from partitions(core))):
        return list(ids), None
    return list(ids), f"{partition}.{slot}.{offset}.{ids[-1] if offset else ''}"


def _number(part: str, cursor: str | None) -> int:
    if not (part.isascii() and part.isdecimal() and len(part) < 17):
        raise _no_cursor(cursor)
    return int(part)


def _id_or_none(part: str, cursor: str | None) -> str:
    if part and not is_session_id(part):
        raise _no_cursor(cursor)
    return part


def _no_cursor(cursor: str | None) -> ValueError:
    return ValueError(f"cursor {cursor!r} is not one that this listing returned")
