"""P4: what a session costs in the server's memory, against a bare key with a 48-byte value that expires."""

from __future__ import annotations

from benchmarks.deployment import BATCH, Deployment, resource_id
from benchmarks.goals import Goal, Row, Scale
from sessionsweep.store import operations as op

FILES = 3


def memory(scale: Scale) -> list[Row]:
    """`used_memory` before and after, both sides in servers of their own that began empty."""
    count, with_files = scale.sessions, scale.sessions // 5
    bare = _bare_keys(count)
    with Deployment() as d:
        before = d.memory()
        d.fill(count)
        each = (d.memory() - before) / count
    with Deployment() as d:
        before = d.memory()
        _fill_with_files(d, with_files)
        each_with_files = (d.memory() - before) / with_files
    other = f"{bare:.0f} B"
    return [
        Row("P4", f"memory of a session, {count:,} live", f"{each:.0f} B", other, each / bare, Goal(most=1.25)),
        Row("P4", f"… with {FILES} files each ({with_files:,})", f"{each_with_files:.0f} B", other,
            each_with_files / bare, Goal(most=2.5)),
    ]  # fmt: skip


def _bare_keys(count: int) -> float:
    with Deployment() as d:
        before = d.memory()
        core, keys, value = d.sessions.core, d.store.keys, b"x" * 48
        for begin in range(0, count, BATCH):
            pipeline = d.client.pipeline(transaction=False)
            for _ in range(min(BATCH, count - begin)):
                pipeline.set(keys.session(core.new_id()), value, ex=86_400)
            pipeline.execute()
        return (d.memory() - before) / count


def _fill_with_files(d: Deployment, count: int) -> None:
    ids = d.fill(count)
    location = "v.0123456789abcdef"
    for begin in range(0, count, BATCH):
        owners = [sid for sid in ids[begin : begin + BATCH] for _ in range(FILES)]
        registered = [op.Register(sid, resource_id(), "f", location, 1024, "upload") for sid in owners]
        d.many(registered)
        d.many([op.Commit(o.session_id, o.resource_id, 1024) for o in registered])
