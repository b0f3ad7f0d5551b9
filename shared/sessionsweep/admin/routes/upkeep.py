"""What is owed, held, dead or silent, and what can be done about it: volumes, nodes, holds, dead letters."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from sessionsweep.admin.desk import Here, Reader, Writer
from sessionsweep.admin.problems import BadRequestError, NotFoundError
from sessionsweep.admin.schemas import CountOut, ScopeIn
from sessionsweep.model.ids import RESOURCE_ID
from sessionsweep.operator import dead_letters, fields, holds, naming, nodes, owed, places
from sessionsweep.operator.queries import overview

MOST = 1000
router = APIRouter(tags=["operations"])
Id = Annotated[str, Path(description="The resource's id.", max_length=200)]


@router.get("/healthz")
def health() -> dict[str, str]:
    """Whether this process answers; asks nobody, and needs no token."""
    return {"status": "ok"}


@router.get("/stats")
def stats(here: Here, reader: Reader) -> dict[str, Any]:
    """The books, the backlog, volumes, nodes, holds and alarms: what `sessionsweep stats` shows."""
    seen = here.run(overview(here.core))
    return fields.of_overview(seen, places.look(here.core, here.store), here.run(nodes.listed(here.core)))


@router.get("/volumes")
def list_volumes(here: Here, reader: Reader) -> dict[str, Any]:
    """Every location that holds or owes something: its debt, who mounts it, and what keeps it from being cleaned."""
    return {"volumes": [fields.of_place(place) for place in places.look(here.core, here.store)]}


@router.get("/nodes")
def list_nodes(here: Here, reader: Reader) -> dict[str, Any]:
    """Every node whose worker was heard of in the last week."""
    return {"nodes": [fields.of_node(node) for node in here.run(nodes.listed(here.core))]}


@router.get("/holds")
def list_holds(here: Here, reader: Reader) -> dict[str, Any]:
    """What stops destruction: what happened, what to do, and when it ends."""
    standing, now = here.run(holds.listed())
    return {"holds": [fields.of_hold(hold, now) for hold in standing]}


@router.post("/holds/lift")
def lift_hold(here: Here, writer: Writer, which: ScopeIn) -> dict[str, Any]:
    """Lets destruction go on: your word that the store is to be trusted."""
    standing, _ = here.run(holds.listed())
    if all(hold.scope != which.scope for hold in standing):
        raise NotFoundError("There is no hold of that scope; GET /admin/holds lists them.")
    hold = here.run(holds.lift(here.core, which.scope))
    return {"success": True, "scope": hold.scope, "reason": hold.reason}


@router.get("/dead-letters")
def list_dead_letters(here: Here, reader: Reader, limit: Annotated[int, Query(ge=1, le=MOST)] = MOST) -> dict[str, Any]:
    """What failed too often: where it lies, and why."""
    names = here.run(naming.names(here.core))
    letters = here.run(dead_letters.listed(here.core, limit))
    return {"dead_letters": [fields.of_dead_letter(letter, names) for letter in letters]}


@router.post("/dead-letters/{resource_id}/retry")
def retry(here: Here, writer: Writer, resource_id: Id) -> CountOut:
    """Owed again, due now, its tries counted anew."""
    return CountOut(count=here.run(dead_letters.retry(here.run(dead_letters.find(here.core, _known(resource_id))))))


@router.post("/dead-letters/{resource_id}/drop")
def drop(here: Here, writer: Writer, resource_id: Id) -> CountOut:
    """Forgotten: its bytes stay where they are, and are nobody's."""
    letter = here.run(dead_letters.find(here.core, _known(resource_id)))
    return CountOut(count=here.run(dead_letters.drop(here.core, letter)))


@router.get("/owed")
def list_owed(
    here: Here,
    reader: Reader,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    failing: Annotated[bool, Query(description="Only what was tried and failed.")] = False,
) -> dict[str, Any]:
    """What ended sessions left and nobody has deleted yet: tries, the error, and when it is tried next."""
    try:
        page = owed.listed(here.core, here.store, cursor=cursor, limit=limit, failing=failing)
    except ValueError:
        raise BadRequestError("`cursor` is none that this listing returned; leave it out to begin anew.") from None
    names = here.run(naming.names(here.core))
    return {
        "owed": [fields.of_owed(one, names) for one in page.resources],
        "next_cursor": page.next_cursor,
        "looked_at": page.looked_at,
    }


@router.post("/owed/retry")
def retry_owed(here: Here, writer: Writer) -> CountOut:
    """Makes what failed and backs off due now; its tries stay counted."""
    due, _ = owed.try_now(here.core, here.store)
    return CountOut(count=due)


def _known(resource_id: str) -> str:
    if not RESOURCE_ID.match(resource_id):
        raise NotFoundError("There is no such dead letter; GET /admin/dead-letters lists them.")
    return resource_id
