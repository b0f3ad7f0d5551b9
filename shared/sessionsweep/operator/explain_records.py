"""What the records of a session or a resource say of it, in sentences: its state, why it is so, what comes next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sessionsweep.deployment import Core
from sessionsweep.model.ids import partition_of
from sessionsweep.model.resource import ResourceRecord
from sessionsweep.model.session import NEVER, SessionRecord, Tombstone
from sessionsweep.model.states import EndReason, ResourceState
from sessionsweep.operator import causes, places
from sessionsweep.operator.queries import Life, SessionCase, overview, show
from sessionsweep.operator.wording import brief, count
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.protocol import Store
from sessionsweep.units import format_size

LOOKS = 5000  # queue entries that are looked through for one session's turn, or for a resource's session
PAGE = 500


@dataclass(frozen=True, slots=True)
class Explanation:
    """What it is, its state in a word, and sentences: why it is so, what happens next and when."""

    subject: str
    state: str
    sentences: tuple[str, ...]
    session_id: str = ""
    resource_id: str = ""
    path: str = ""
    problems: tuple[str, ...] = field(default=())  # what keeps it from going on, each with what to do


def of_session(core: Core, store: Store, session_id: str) -> Explanation:
    """A session in whatever state, and in short what it owns or owes. Raises StoreError."""
    case = run(show(session_id), store)
    if case is None:
        return Explanation(
            f"session {session_id}",
            "unknown",
            (
                "Nothing is known of it: it never was, it ended owning nothing, or all that it owned is gone and its "
                f"receipt's time ({brief(core.settings.tombstone_retention)} after that) is over.",
            ),
            session_id,
        )
    said, wrong = list(_life(core, store, case)), list[str]()
    if case.life is Life.ENDED:
        for location in sorted({r.location for r in case.resources if r.state is not ResourceState.DEAD}):
            wrong += _problems(core, store, location)
    said += [_in_short(record, case) for record in case.resources[:20]]
    if len(case.resources) > 20:
        said.append(f"… and {len(case.resources) - 20:,} more: sessionsweep sessions show {session_id}")
    user = case.record.user if case.record else case.tombstone.user if case.tombstone else None
    subject = f"session {session_id}" + (f" of {user}" if user else "")
    return Explanation(subject, case.life, tuple(said), session_id, problems=tuple(wrong))


def _life(core: Core, store: Store, case: SessionCase) -> Iterator[str]:
    """Sentences about the session itself."""
    now, record, tombstone = case.now, case.record, case.tombstone
    if record is not None and case.life is Life.LIVE:
        yield (
            f"It lives: begun {_ago(record.created, now)}, last active {_ago(record.last_activity, now)}. It keeps "
            "what it owns; nothing of it is deleted."
        )
        yield _ends(core, record, now)
    elif record is not None:
        why = "idle for too long" if now >= record.idle_end else "older than its maximum duration"
        since = brief((now - min(record.idle_end, record.absolute_end)) / 1000)
        yield f"It is {why}, and dead to every request since {since}. The next sweep ends it."
        yield from _sweeps(core, store)
    elif tombstone is not None:
        yield f"It ended {_ago(tombstone.ended, now)}: {_REASONS.get(tombstone.reason, tombstone.reason)}."
        dead = tombstone.dead_letters
        if waiting := tombstone.owed - dead:
            wait = "waits" if waiting == 1 else "wait"
            yield f"{count(waiting, 'resource')} of it {wait} to be deleted; {_done(tombstone.deleted)}."
        if dead:
            yield (
                f"{count(dead, 'dead letter')}: failed too often, nobody tries any more. When the cause is mended: "
                "sessionsweep dead-letters retry"
            )
        if not tombstone.owed:
            yield f"It owes nothing: {_dealt_with(tombstone)}."
    else:
        yield "Its record was lost with writes that the server forgot; what it owned was found, and is to be deleted."


_REASONS: dict[str, str] = {
    EndReason.IDLE: "nobody used it for its idle timeout",
    EndReason.EXPIRED: "it reached its maximum duration",
    EndReason.LOGOUT: "its user logged out",
    EndReason.USER: "its user ended it from another session",
    EndReason.ADMIN: "an operator ended it",
    EndReason.LIMIT: "a limit on sessions ended it",
    EndReason.LOST: "its record was lost with writes that the server forgot",
}


def _ends(core: Core, record: SessionRecord, now: int) -> str:
    idle = f"in {_in(record.idle_end, now)} if nobody uses it"
    if now >= record.idle_end:
        idle = (
            "when idle ends are held no longer, if nobody uses it: it seems idle, but the server may have forgotten "
            "touches (sessionsweep holds list)"
        )
    kept = " (a job keeps it alive)" if record.keep_alive > record.last_activity + record.idle else ""
    absolute = "" if record.absolute_end == NEVER else f", at the latest in {_in(record.absolute_end, now)}"
    grace = brief(core.settings.grace_period)
    return f"It ends {idle}{kept}{absolute}. Its files go {grace} after that; after a log-out at once."


def _sweeps(core: Core, store: Store) -> Iterator[str]:
    """What keeps the next sweep from coming."""
    seen = run(overview(core), store)
    if seen.last_sweep_seconds_ago is None:
        yield "But no sweep has ever run: start a worker."
    elif seen.last_sweep_seconds_ago > 3 * core.settings.cleanup_interval:
        yield f"But the last sweep ran {brief(seen.last_sweep_seconds_ago)} ago: is a worker alive?"


# resources


def of_resource(core: Core, store: Store, session_id: str, resource_id: str, path: str = "") -> Explanation:
    """One resource, and what of its session decides over it. Raises StoreError."""
    case = run(show(session_id), store)
    record = next((r for r in case.resources if r.resource_id == resource_id), None) if case is not None else None
    subject = f"resource {resource_id} of session {session_id}"
    if case is None or record is None:
        whose = (
            "nothing is known of that session"
            if case is None
            else f"the session is {case.life} and has no record of it"
        )
        said = (f"No such resource: {whose}. It was deleted, promoted, given up, or never was.",)
        return Explanation(subject, "unknown", said, session_id, resource_id, path)
    state, sentences = _standing(core, store, case, record)
    life = () if case.life is Life.ENDED and record.state is ResourceState.DEAD else tuple(_life(core, store, case))
    wrong: tuple[str, ...] = ()
    if state in ("owed", "dead"):
        wrong = _problems(core, store, record.location)
    return Explanation(subject, state, (*sentences, *life), session_id, resource_id, path, wrong)


def _standing(core: Core, store: Store, case: SessionCase, record: ResourceRecord) -> tuple[str, list[str]]:
    """Its state, and what that means."""
    now = case.now
    if record.state is ResourceState.DEAD:
        return "dead", [
            f"It is a dead letter since {brief((now - record.until) / 1000)}: {count(record.tries, 'attempt')} failed "
            f"({causes.explained(record.error)}).",
            "Nothing more happens by itself. Once the cause is gone: sessionsweep dead-letters retry "
            f"{record.resource_id}; to forget it (its bytes stay): drop.",
        ]
    if case.life is Life.ENDED or record.state is ResourceState.OWED:
        return "owed", _owed(store, case, record)
    if record.state is ResourceState.INTENT:
        return "being written", [
            f"It is being written, {format_size(record.size)} are reserved. If its writer is silent it is deleted in "
            f"{_in(record.until, now)}."
        ]
    said = [f"Its session owns it, {format_size(record.size)}, last used {_ago(record.used, now)}."]
    if record.until > now:
        said.append(f"A job has pinned it for another {_in(record.until, now)}: until then nobody deletes it.")
    return "live", said


def _owed(store: Store, case: SessionCase, record: ResourceRecord) -> list[str]:
    why = "Its session has ended" if case.life is Life.ENDED else "The app gave it up, or it made room for another"
    said = [f"{why}: it is to be deleted."]
    if record.tries:
        said.append(f"{count(record.tries, 'attempt')} failed: {causes.explained(record.error)}.")
    turn = record.until if record.state is ResourceState.OWED else _turn(store, case.session_id, record.location)
    if turn is None:
        said.append("Its turn could not be found: a worker has it at this moment, or many wait before it.")
    elif turn > case.now:
        said.append(f"It is tried {'again ' if record.tries else ''}in {_in(turn, case.now)}.")
    else:
        said.append(f"It has been due for {brief((case.now - turn) / 1000)}: the next pass there deletes it.")
    return said


def _turn(store: Store, session_id: str, location: str) -> int | None:
    """When a location's workers look at what that session owes there (ms); None: not among the first LOOKS entries."""
    since, skip = 0, 0
    for _ in range(LOOKS // PAGE):
        page = store.execute(op.QueuePage(partition_of(session_id), location, since, skip, PAGE))
        for entry in page:
            if entry.session_id == session_id:
                return entry.next_attempt
        if len(page) < PAGE:
            return None
        last = page[-1].next_attempt
        skip = sum(entry.next_attempt == last for entry in page) + (skip if last == since else 0)
        since = last
    return None


def _problems(core: Core, store: Store, location: str) -> tuple[str, ...]:
    return next((place.problems for place in places.look(core, store) if place.location == location), ())


# words


def _in_short(record: ResourceRecord, case: SessionCase) -> str:
    state = "owed" if case.life is Life.ENDED and record.state is not ResourceState.DEAD else record.state.name.lower()
    failed = f", {count(record.tries, 'attempt')} failed: {record.error}" if record.tries else ""
    return f"{record.resource_id}: {state}, {format_size(record.size)}{failed}"


def _done(deleted: int) -> str:
    return f"{count(deleted, 'resource')} deleted" if deleted else "none is deleted yet"


def _dealt_with(tombstone: Tombstone) -> str:
    """What became of all that it had. What an operator forgot, or the app took over, may still lie on a disk."""
    gone, promoted, forgotten = (
        sum(getattr(place, name) for place in tombstone.places) for name in ("gone", "promoted", "forgotten")
    )
    parts = [f"{count(tombstone.deleted, 'resource')} deleted ({format_size(tombstone.bytes_deleted)})"]
    parts += [f"{gone:,} found gone already"] if gone else []
    parts += [f"{promoted:,} promoted to the app"] if promoted else []
    parts += [f"{forgotten:,} forgotten by an operator or with a volume, left where it lay"] if forgotten else []
    return ", ".join(parts)


def _ago(at: int, now: int) -> str:
    return f"{brief((now - at) / 1000)} ago"


def _in(at: int, now: int) -> str:
    return brief(max(1.0, (at - now) / 1000))
