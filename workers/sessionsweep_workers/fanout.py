"""Messages to the queues of volumes that other nodes mount: only where a worker listens, and never two that wait.

A message to a queue that nobody consumes would wait for ever, and a node that is away for a week would find a week of
them. Its own worker looks at its queues by itself when it comes back, so nothing depends on these.
"""

from __future__ import annotations

import secrets
from typing import Any

from sessionsweep.deployment import partitions
from sessionsweep.model.ids import VOLUME_ID
from sessionsweep.model.resource import volume_location
from sessionsweep.model.rows import json_object, whole
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.protocol import Store
from sessionsweep_workers import names
from sessionsweep_workers.context import Context
from sessionsweep_workers.passes import part_of

SILENCE = 30_000  # ms without a heartbeat after which a node's worker gets no message
OUTSTANDING = 30_000  # ms after which a reclaim that was sent and never began is taken for lost


def listened(store: Store) -> set[str]:
    """The volume ids whose queue a worker consumes. A damaged row, or one from the future, says nothing."""
    now = store.execute(op.Facts()).now
    prefix = names.volume_queue("")
    volumes: set[str] = set()
    for row in store.execute(op.Table("n")).values():
        about = json_object(row)
        queues = about.get("queues")
        if abs(now - whole(about.get("at"))) <= SILENCE and isinstance(queues, list):
            volumes.update(queue.removeprefix(prefix) for queue in queues if str(queue).startswith(prefix))
    return {volume for volume in volumes if VOLUME_ID.match(volume)}


def orphans(task: Any, context: Context, dry_run: bool, request_id: str | None) -> list[str]:
    """An orphan pass for each volume that this node doesn't mount; which."""
    here = {volume.id for volume in context.core.mounts.here()}
    others = sorted((listened(context.store) & set(context.store.execute(op.Table("vols")))) - here)
    for other in others:
        task.resend(names.volume_queue(other), volume=other, dry_run=dry_run, request_id=part_of(request_id, other))
    return others


def reclaims(task: Any, context: Context) -> int:
    """A reclaim for each other volume where something is due; how many."""
    here = {volume.id for volume in context.core.mounts.here()}
    due = {volume for volume in listened(context.store) - here if _is_due(context, volume)}
    return sum(send_reclaim(task, context.store, volume) for volume in sorted(due))


def send_reclaim(task: Any, store: Store, volume_id: str) -> bool:
    """Sends a reclaim to a volume's queue unless one waits there to begin. False: one does.

    Raises:
        kombu.exceptions.OperationalError: the broker doesn't take it.
    """
    token = secrets.token_hex(8)
    if not store.execute(op.TakeLease(names.outstanding(volume_id), token, OUTSTANDING)):
        return False
    try:
        task.apply_async(kwargs={"volume": volume_id, "sent": token}, queue=names.volume_queue(volume_id), retry=False)
    except BaseException:
        store.execute(op.DropLease(names.outstanding(volume_id), token))
        raise
    return True


def _is_due(context: Context, volume_id: str) -> bool:
    location = volume_location(volume_id)
    depths = (context.store.execute(op.Queues(one)) for one in run(partitions(context.core), context.store))
    return any(depth.location == location and depth.oldest_due > 0 for queue in depths for depth in queue)
