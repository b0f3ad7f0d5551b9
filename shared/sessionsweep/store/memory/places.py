"""Books of places: a user's sessions, all sessions, and what a user's sessions hold together."""

from __future__ import annotations

import random

from sessionsweep.store.memory.state import FAR, State
from sessionsweep.store.memory.steps import Step, common_step
from sessionsweep.store.operations import (
    BookPage,
    Confirm,
    GiveBack,
    Place,
    Reserve,
    Reserved,
    ReserveQuota,
    Share,
)

ALL = "*"  # every share of a session
MOST = 500  # shares that are looked through for suspects at once


@common_step
def reserve(state: State, operation: Reserve, now: int) -> Reserved:
    """Reserves a place, if one is free. Whoever may be gone is told, never removed here."""
    book = state.books.setdefault(operation.user, {})
    deadline = now + operation.duration
    mine = book.get(operation.session_id)
    if mine is not None and mine >= FAR:
        book[operation.session_id] = max(mine, FAR + operation.bound)
        return Reserved(True, deadline, len(book))
    if mine is None and 0 < operation.limit <= len(book):
        lapsed = [sid for sid in _in_order(book) if book[sid] <= now]
        lasting = [sid for sid in _in_order(book) if book[sid] >= FAR]
        reply = Reserved(False, deadline, len(book), tuple((lapsed + lasting)[: operation.suspects]))
        _drop_empty(state, operation.user)
        return reply
    book[operation.session_id] = deadline
    return Reserved(True, deadline, len(book))


@common_step
def confirm(state: State, operation: Confirm, now: int) -> bool:
    """Makes a place last."""
    book = state.books.setdefault(operation.user, {})
    mine = book.get(operation.session_id, 0)
    if mine < FAR or mine < FAR + operation.bound:
        book[operation.session_id] = FAR + (operation.bound or now)
    return True


@common_step
def give_back(state: State, operation: GiveBack, now: int) -> bool:
    """Frees a place, or shares of a quota."""
    place = state.books.get(operation.user, {}).get(operation.session_id)
    if operation.before and place is not None and place % FAR > operation.before:
        return False
    if not operation.resource_id:
        removed = state.books.get(operation.user, {}).pop(operation.session_id, None) is not None
        _drop_empty(state, operation.user)
        return removed
    quota = state.quotas.get(operation.user or "", {})
    if operation.resource_id == ALL:
        shares = [share for share in quota if share.startswith(operation.session_id + " ")]
    else:
        shares = [f"{operation.session_id} {operation.resource_id}"]
    found = [quota.pop(share) for share in shares if share in quota]
    if not quota:
        state.quotas.pop(operation.user or "", None)
    return bool(found)


@common_step
def book_page(state: State, operation: BookPage, now: int) -> tuple[Place, ...]:
    """The places behind a cursor."""
    book, cursor = state.books.get(operation.user, {}), (operation.since, operation.after)
    behind = [Place(session_id, book[session_id]) for session_id in _in_order(book)]
    return tuple(place for place in behind if (place.at, place.session_id) > cursor)[: operation.limit]


@common_step
def reserve_quota(state: State, operation: ReserveQuota, now: int) -> Share:
    """Reserves a share, or sets its size."""
    quota = state.quotas.get(operation.user, {})
    name = f"{operation.session_id} {operation.resource_id}"
    if operation.present and name not in quota:
        return Share("gone")
    size, deadline = quota.get(name, (0, now + operation.duration))
    grown = operation.size - size
    if name not in quota and 0 < operation.max_resources < len(quota) + 1:
        return Share("limit:resources", 0, _suspects(quota, now))
    if 0 < operation.max_bytes < sum(size for size, _ in quota.values()) + grown and grown > 0:
        return Share("limit:bytes", 0, _suspects(quota, now))
    state.quotas.setdefault(operation.user, quota)[name] = (operation.size, deadline)
    return Share("ok", deadline)


def _suspects(quota: dict[str, tuple[int, int]], now: int) -> tuple[str, ...]:
    chosen = quota if len(quota) < MOST else random.sample(list(quota), MOST)
    return tuple(sorted(name for name in chosen if quota[name][1] <= now))


def _in_order(book: dict[str, int]) -> list[str]:
    return sorted(book, key=lambda session_id: (book[session_id], session_id))


def _drop_empty(state: State, user: str | None) -> None:
    if not state.books.get(user, True):
        del state.books[user]


STEPS: dict[type, Step] = {
    Reserve: reserve,
    Confirm: confirm,
    GiveBack: give_back,
    BookPage: book_page,
    ReserveQuota: reserve_quota,
}
