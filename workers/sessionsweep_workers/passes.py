"""Records of passes in the store: who ran what, with which result; read by `sweep --wait` without a result backend."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sessionsweep.store import operations as op
from sessionsweep.store.protocol import Store
from sessionsweep_workers.context import Context

TABLE = "passes"
KEPT = 200  # rows; the oldest make room


@dataclass
class Record:
    """One run of a task, as it stands in the table `passes` under its request id."""

    id: str
    name: str
    node: str
    result: dict[str, Any] = field(default_factory=dict)

    def done(self, result: dict[str, Any]) -> None:
        """Sets the counts that the record will show."""
        self.result = result


@contextmanager
def record(context: Context, name: str, request_id: str | None) -> Iterator[Record]:
    """Writes the record when the block ends, also when it fails."""
    about = Record(request_id or "", name, context.settings.node)
    state = "failed"
    try:
        yield about
        state = "done"
    except Exception as error:
        about.result = {"error": f"{type(error).__name__}: {error}"}
        raise
    finally:
        if about.id:
            _write(context.store, about, state)


def _write(store: Store, about: Record, state: str) -> None:
    now = store.execute(op.Facts()).now
    row = {"name": about.name, "node": about.node, "state": state, "at": now, "result": about.result}
    store.execute(op.TablePut(TABLE, about.id, json.dumps(row)))
    if time.monotonic_ns() % 20 == 0:  # now and then is enough
        rows = store.execute(op.Table(TABLE))
        oldest = sorted(rows, key=lambda one: json.loads(rows[one])["at"])[: max(0, len(rows) - KEPT)]
        for one in oldest:
            store.execute(op.TableDrop(TABLE, one))


def read(store: Store, request_id: str) -> dict[str, Any] | None:
    """The record of a request, or None while it has not ended."""
    row = store.execute(op.Table(TABLE)).get(request_id)
    return json.loads(row) if row else None
