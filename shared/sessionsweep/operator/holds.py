"""Holds for operators: what stops destruction, and the word that lets it go on."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sessionsweep.deployment import Core, partitions
from sessionsweep.errors import HeldError, VolumeError
from sessionsweep.model.holds import ALL, IDLE, SERVER, Hold, mark_of, volume_scope
from sessionsweep.store import operations as op
from sessionsweep.store.flow import Flow, ask, work
from sessionsweep.volumes.volume import Volume


def listed() -> Flow[tuple[list[Hold], int]]:
    """All holds, the oldest first, and the store's time (ms). A hold whose time is over is left out."""
    facts = yield from ask(op.Facts())
    rows = yield from ask(op.Table("holds"))
    holds = [Hold.read(scope, row) for scope, row in rows.items()]
    standing = [hold for hold in holds if not hold.until or hold.until > facts.now]
    return sorted(standing, key=lambda hold: (hold.since, hold.scope)), facts.now


def lift(core: Core, scope: str) -> Flow[Hold]:
    """The operator's word: destruction goes on. Answers the hold that was lifted.

    Lifting `all` takes the store as it is for the truth: its time marks are raised to now, or the next pass would find
    it rolled back again; so is the mark of a volume, lifted where it is mounted, that lies ahead of it. Lifting `idle`
    lets idle ends go on at once. Lifting a hold for too many orphans allows the next whole walk to pass the cap.

    Raises:
        HeldError: there is no such hold, or lifting it changes nothing because its cause still stands.
    """
    rows = yield from ask(op.Table("holds"))
    if scope not in rows:
        known = ", ".join(sorted(rows)) or "there are none"
        raise HeldError(f"There is no hold on {scope!r}; holds: {known}.")
    hold = Hold.read(scope, rows[scope])
    if hold.reason == "foreign-deployment":
        raise HeldError(
            f"Lifting the hold on {scope} changes nothing: the next pass makes it again, for the marker still names "
            f"another deployment. If this store is the right one: sessionsweep volumes adopt NAME, on node {hold.node}."
        )
    if scope == SERVER:
        raise HeldError(f"The hold on {scope} can't be lifted: it goes by itself once its cause does. {hold.text}")
    if scope == ALL:
        # Marks first: a pass between the two steps finds the hold or agreeing marks, never neither.
        facts = yield from ask(op.Facts())
        yield from ask(op.SetMeta({"high_water": str(facts.now)}, raise_only=True))
        for volume_id in (yield from ask(op.Table("marks"))):
            yield from ask(op.TableDrop("marks", volume_id))  # from here on it has that one, wherever it is mounted
        yield from _lower_marks(core, facts.now)
    if hold.reason == "state-unreadable":
        # to the store's mark, which was said to be right; raising that would hide a roll-back from other volumes
        meta, marks = (yield from ask(op.Meta())), (yield from ask(op.Table("marks")))
        mark = mark_of(marks, meta, scope.removeprefix(volume_scope("")))
        yield from _lower_marks(core, min(mark, (yield from ask(op.Facts())).now), scope)
    seen = None if hold.reason == "unreadable" else rows[scope]  # what is no text isn't here as it stands there
    if not (yield from ask(op.TableDrop("holds", scope, seen))):
        raise HeldError(f"The hold on {scope} is another one by now: see sessionsweep holds list, then lift it.")
    if scope == IDLE:
        # after the row: were another restart noted meanwhile, its hold would be taken from the partitions. Should this
        # process die in between, the next sweep puts the row back
        for partition in (yield from partitions(core)):
            yield from ask(op.HoldIdle(partition, 0))
    return hold


def _lower_marks(core: Core, most: int, scope: str = ALL) -> Flow[None]:
    """This node's volumes whose mark lies in the store's future (its clock was set back) would be held again."""
    for spec in core.settings.volumes:
        try:
            volume: Volume = yield from work(partial(Volume.open, Path(spec.path), spec.name))
            mark = yield from work(volume.high_water)
            if mark is not None and mark > most and scope in (ALL, volume_scope(volume.id)):
                yield from work(partial(volume.set_high_water, most, lower=True))
        except VolumeError:
            continue  # not mounted: it holds again when it comes back, and says so
