"""Pages of what is owed, held, dead or silent: volumes, nodes, debts, dead letters, holds; and what can be done."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from sessionsweep.admin.desk import Here
from sessionsweep.admin.pages.entry import Actor, Form, PageRoute, Visitor, back_to, one, refuse_readers
from sessionsweep.admin.pages.rendering import UI, page
from sessionsweep.admin.problems import BadRequestError, NotFoundError
from sessionsweep.model.ids import RESOURCE_ID
from sessionsweep.operator import dead_letters, fields, naming, nodes, owed, places
from sessionsweep.operator import holds as standing_holds
from sessionsweep.operator.wording import count

MOST = 100  # rows a page
router = APIRouter(route_class=PageRoute)
Number = Annotated[int, Query(ge=0, le=10**9)]


@router.get(f"{UI}/volumes")
def volumes(request: Request, here: Here, visit: Visitor) -> Response:
    """Each location that holds or owes something, those with problems first."""
    found = places.look(here.core, here.store)
    return page(request, "volumes.html", places=found, names=here.run(naming.names(here.core)))


@router.get(f"{UI}/nodes")
def list_nodes(request: Request, here: Here, visit: Visitor) -> Response:
    """Every node whose worker was heard of in the last week."""
    return page(request, "nodes.html", nodes=here.run(nodes.listed(here.core)))


@router.get(f"{UI}/owed")
def list_owed(
    request: Request,
    here: Here,
    visit: Visitor,
    failing: str = "",
    cursor: Annotated[str, Query(max_length=200)] = "",
    tried: Number = -1,
) -> Response:
    """What ended sessions left and nobody has deleted yet."""
    try:
        found = owed.listed(here.core, here.store, cursor=cursor or None, limit=MOST, failing=bool(failing))
    except ValueError:
        raise BadRequestError("This page's place in the list is none any more: begin anew.") from None
    names = here.run(naming.names(here.core))
    return page(
        request,
        "owed.html",
        owed=[fields.of_owed(one_, names) for one_ in found.resources],
        next_cursor=found.next_cursor,
        looked_at=found.looked_at,
        failing=bool(failing),
        paged=bool(cursor),
        said=f"{count(tried, 'resource')} due now: the workers try at once." if tried >= 0 else None,
    )


@router.post(f"{UI}/owed/retry")
def retry_owed(request: Request, here: Here, visit: Actor) -> Response:
    """Makes what failed and backs off due now; its tries stay counted."""
    due, _ = owed.try_now(here.core, here.store)
    return back_to(request, here, f"{UI}/owed", tried=due)


@router.get(f"{UI}/dead-letters")
def list_dead_letters(
    request: Request, here: Here, visit: Visitor, retried: Number = -1, dropped: Number = -1
) -> Response:
    """What failed too often: where it lies, and why."""
    names = here.run(naming.names(here.core))
    letters = here.run(dead_letters.listed(here.core, MOST + 1))
    said = None
    if retried > 1:
        said = f"{count(retried, 'resource')} owed again: the workers try at once."
    elif retried >= 0:
        said = "Owed again: a worker tries at once." if retried else "It was no dead letter any more."
    elif dropped >= 0:
        said = "Forgotten; its bytes stay where they are." if dropped else "It was no dead letter any more."
    return page(
        request,
        "dead_letters.html",
        letters=[fields.of_dead_letter(letter, names) for letter in letters[:MOST]],
        more=len(letters) > MOST,
        most=MOST,
        said=said,
    )


@router.get(f"{UI}/dead-letters/retry")
def confirm_retry_all(request: Request, here: Here, visit: Visitor) -> Response:
    """Asks whether the cause is gone: else all of them fail as often again."""
    refuse_readers(visit)
    letters = here.run(dead_letters.listed(here.core))
    if not letters:
        raise NotFoundError("There is no dead letter any more.")
    return page(
        request,
        "confirm.html",
        question=f"Retry {count(len(letters), 'dead letter')}?",
        items=[],
        consequence="They are owed again, due now, their tries counted anew. Mend the cause first, or they come back.",
        label="Retry all",
        fields=[],
        action=f"{UI}/dead-letters/retry",
        back=f"{UI}/dead-letters",
    )


@router.post(f"{UI}/dead-letters/retry")
def retry_all(request: Request, here: Here, visit: Actor) -> Response:
    """Each owed again, due now, its tries counted anew."""
    letters = here.run(dead_letters.listed(here.core))
    done = sum(here.run(dead_letters.retry(letter)) for letter in letters)
    return back_to(request, here, f"{UI}/dead-letters", retried=done)


@router.post(f"{UI}/dead-letters/{{resource_id}}/retry")
def retry(request: Request, here: Here, visit: Actor, resource_id: str) -> Response:
    """Owed again, due now, its tries counted anew."""
    letter = here.run(dead_letters.find(here.core, _known(resource_id)))
    return back_to(request, here, f"{UI}/dead-letters", retried=int(here.run(dead_letters.retry(letter))))


@router.get(f"{UI}/dead-letters/{{resource_id}}/drop")
def confirm_drop(request: Request, here: Here, visit: Visitor, resource_id: str) -> Response:
    """Asks once more before it is forgotten."""
    refuse_readers(visit)
    letter = here.run(dead_letters.find(here.core, _known(resource_id)))
    told = fields.of_dead_letter(letter, here.run(naming.names(here.core)))
    return page(
        request,
        "confirm.html",
        question="Forget this dead letter?",
        items=[told["path"] or told["resource_id"]],
        consequence="Its bytes stay where they are, and nobody knows of them any more. This can't be taken back.",
        label="Forget it",
        fields=[],
        action=f"{UI}/dead-letters/{resource_id}/drop",
        back=f"{UI}/dead-letters",
    )


@router.post(f"{UI}/dead-letters/{{resource_id}}/drop")
def drop(request: Request, here: Here, visit: Actor, resource_id: str) -> Response:
    """Forgotten: its bytes stay where they are, and are nobody's."""
    letter = here.run(dead_letters.find(here.core, _known(resource_id)))
    return back_to(request, here, f"{UI}/dead-letters", dropped=int(here.run(dead_letters.drop(here.core, letter))))


@router.get(f"{UI}/holds")
def list_holds(
    request: Request, here: Here, visit: Visitor, lifted: Annotated[str, Query(max_length=1)] = ""
) -> Response:
    """What stops destruction: what happened, what to do, and when it ends."""
    standing, now = here.run(standing_holds.listed())
    said = "Lifted: deleting goes on." if lifted else None
    return page(request, "holds.html", holds=[fields.of_hold(hold, now) for hold in standing], said=said)


@router.get(f"{UI}/holds/lift")
def confirm_lift(
    request: Request, here: Here, visit: Visitor, scope: Annotated[str, Query(max_length=300)]
) -> Response:
    """Asks once more before destruction goes on."""
    refuse_readers(visit)
    standing, now = here.run(standing_holds.listed())
    told = [fields.of_hold(hold, now) for hold in standing if hold.scope == scope]
    if not told:
        raise NotFoundError("There is no hold of that scope any more.")
    return page(
        request,
        "confirm.html",
        question=f"Lift the hold on {scope}?",
        items=[],
        consequence=f"It stops {told[0]['stops']}. First: {told[0]['remedy']}. Lifting is your word that the state is "
        "to be trusted; what is deleted then is gone.",
        label="Lift it",
        fields=[("scope", scope)],
        action=f"{UI}/holds/lift",
        back=f"{UI}/holds",
    )


@router.post(f"{UI}/holds/lift")
def lift(request: Request, here: Here, visit: Actor, form: Form) -> Response:
    """The operator's word: destruction goes on."""
    here.run(standing_holds.lift(here.core, one(form, "scope")))
    return back_to(request, here, f"{UI}/holds", lifted=1)


def _known(resource_id: str) -> str:
    if not RESOURCE_ID.match(resource_id):
        raise NotFoundError("There is no such dead letter.")
    return resource_id
