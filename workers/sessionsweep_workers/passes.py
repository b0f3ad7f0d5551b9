"""Records of passes in the store: who ran what, with which result; read by `stats` and `sweep --wait`, without a result
backend.

Table `passes`, row → JSON `{"name", "node", "state", "at", "result", "parts"}`:

    last:<task>[:<volume>]   the last run of each task, whoever asked for it; a dry run is none
    <request id>             a run that somebody waits for; the newest KEPT of these stay
    <request id>.<volume>    its part on another node's volume; the run has ended when all its `parts` have

`state` is `running` (it goes on in another message), `done` or `failed`; `at` is the store's time in ms; `result` has
the counts, bytes and seconds so far, or `error`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from sessionsweep.errors import StoreError
from sessionsweep.model.rows import MOST, json_object, whole
from sessionsweep.store import operations as op
from sessionsweep.store.protocol import Store
from sessionsweep_workers.context import Context

log = logging.getLogger(__name__)

TABLE = "passes"
KEPT = 100  # rows of requests; the oldest make room
LAST = "last:"
ENDED = ("done", "failed")
REQUEST = re.compile(r"[A-Za-z0-9-]{1,64}(?:\.[0-9a-z]{16})?\Z")


@dataclass
class PassRecord:
    """One run of a task. `more` says that it goes on in another message."""

    name: str
    node: str
    state: str = "running"
    at: int = 0
    result: dict[str, Any] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)

    def done(self, result: Mapping[str, Any], *, more: bool = False) -> None:
        """Sets the counts that the record will show."""
        self.result = dict(result)
        self.state = "running" if more else "done"

    def encode(self) -> str:
        """As it stands in the table."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> PassRecord:
        """From the table. A row that can't be read is a pass that failed long ago: the next one writes it anew."""
        about = json_object(text)
        name, node, state = (str(about.get(field)) for field in ("name", "node", "state"))
        result, parts = about.get("result"), about.get("parts")
        if not (isinstance(result, dict) and isinstance(parts, list)):
            return cls("", "", "failed", 0, {"error": f"its record can't be read: {text[:80]!r}"})
        known = {key: value for key, value in result.items() if _is_result(key, value)}
        return cls(name, node, state, max(0, whole(about.get("at"))), known, list(map(str, parts)))

    @property
    def ended(self) -> bool:
        """Whether nothing more will be added to it (its parts have records of their own)."""
        return self.state in ENDED


@contextmanager
def recorded(
    context: Context, name: str, request_id: str | None, volume: str | None = None, *, dry_run: bool = False
) -> Iterator[PassRecord]:
    """Writes the record when the block ends, also when it fails. A store that is away costs the record, not the run.

    Raises:
        ValueError: the request's id comes from a message and is none: as a row it could pass for another's, and stay.
    """
    if request_id is not None and not (isinstance(request_id, str) and REQUEST.match(request_id)):
        raise ValueError(
            f"request_id={str(request_id)[:80]!r} is not 1 to 64 letters, digits and hyphens; leave it out"
        )
    about = PassRecord(name, context.settings.node)
    # after a dry run a keeper would take the real one for done
    last = None if dry_run else last_row(name, volume)
    try:
        yield about
    except BaseException as error:
        about.state = "failed"
        about.result = {"error": f"{type(error).__name__}: {error}"}
        _keep(context.store, about, request_id, last)
        raise
    _keep(context.store, about, request_id, last)


def _keep(store: Store, about: PassRecord, request_id: str | None, last: str | None) -> None:
    try:
        about.at = store.execute(op.Facts()).now
        if last:
            store.execute(op.TablePut(TABLE, last, about.encode()))
        if request_id:
            rows = store.execute(op.Table(TABLE))
            if request_id in rows:  # an earlier message's share of this run
                earlier = PassRecord.decode(rows[request_id])
                about.result = total([earlier.result, about.result])
                about.parts = sorted({*earlier.parts, *about.parts})
            store.execute(op.TablePut(TABLE, request_id, about.encode()))
            _make_room(store, {row: text for row, text in rows.items() if row != request_id})
    except StoreError as error:
        log.warning("no record of %s (%s): %s", about.name, about.state, error)


def _make_room(store: Store, rows: Mapping[str, str]) -> None:
    requests = [row for row in rows if not row.startswith(LAST)]
    if len(requests) < KEPT:
        return
    by_age = sorted(requests, key=lambda row: PassRecord.decode(rows[row]).at)
    for row in by_age[: len(requests) - KEPT + 1]:
        store.execute(op.TableDrop(TABLE, row))


def part_of(request_id: str | None, volume: str) -> str | None:
    """The row of a run's part on one volume; None where nobody waits for the run."""
    return f"{request_id}.{volume}" if request_id else None


def last_row(name: str, volume: str | None = None) -> str:
    """The row of a task's last run (on one volume)."""
    return f"{LAST}{name}:{volume}" if volume else f"{LAST}{name}"


def last_runs(store: Store) -> dict[str, PassRecord]:
    """The last run of each task, by `<task>` or `<task>:<volume>`."""
    rows = store.execute(op.Table(TABLE))
    return {row.removeprefix(LAST): PassRecord.decode(text) for row, text in rows.items() if row.startswith(LAST)}


def read(store: Store, request_id: str) -> dict[str, Any] | None:
    """A run that was asked for, or None: nothing has run yet.

    The row's fields; `parts` has those of the volumes that went on elsewhere, by row (what hasn't begun is missing).
    `state` is `done` or `failed` only when all parts have ended too; `result` is without theirs (see `total`).
    """
    rows = store.execute(op.Table(TABLE))
    if request_id not in rows:
        return None
    whole = PassRecord.decode(rows[request_id])
    parts = {part: PassRecord.decode(rows[part]) for part in whole.parts if part in rows}
    if whole.state == "done":
        if len(parts) < len(whole.parts) or not all(part.ended for part in parts.values()):
            whole.state = "running"
        elif any(part.state == "failed" for part in parts.values()):
            whole.state = "failed"
    return {**asdict(whole), "parts": {row: asdict(part) for row, part in parts.items()}}


def total(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts, bytes and seconds added up; lists joined; of anything else the last."""
    summed: dict[str, Any] = {}
    for result in results:
        for key, value in result.items():
            before = summed.get(key)
            if _is_number(value) and _is_number(before):
                summed[key] = round(before + value, 3)
            elif isinstance(value, list) and isinstance(before, list):
                summed[key] = [*before, *(item for item in value if item not in before)]
            else:
                summed[key] = value
    summed.pop("more", None)
    return summed


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_result(name: str, value: Any) -> bool:
    """Whether a pass says that: counts, bytes and seconds; what is held; why it failed."""
    if name == "held":
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    return isinstance(value, str) if name == "error" else isinstance(value, int | float) and abs(value) < MOST
