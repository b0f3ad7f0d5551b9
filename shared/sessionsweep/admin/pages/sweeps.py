"""The page of sweeps: the last run of each task, and running one now with its progress."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from sessionsweep.admin.desk import Desk, Here
from sessionsweep.admin.pages.entry import Actor, PageRoute, Visitor, back_to
from sessionsweep.admin.pages.rendering import UI, page
from sessionsweep.admin.problems import UnavailableError
from sessionsweep.admin.routes.sweeps import Kind
from sessionsweep.model.rows import MOST
from sessionsweep.operator import naming
from sessionsweep.operator.wording import brief
from sessionsweep.store import operations as op
from sessionsweep.units import format_size

PREFIX = "sessionsweep."
router = APIRouter(route_class=PageRoute)


@router.get(f"{UI}/sweeps")
def show(
    request: Request,
    here: Here,
    visit: Visitor,
    run: Annotated[str, Query(pattern=r"^[A-Za-z0-9-]{0,64}$")] = "",
    kind: Kind | None = None,
) -> Response:
    """The last runs, and where the one stands that was asked for. Where nobody takes orders, that is said."""
    runs, asked, why = list[dict[str, Any]](), None, ""
    try:
        dispatcher = here.dispatcher()
        names = here.run(naming.names(here.core))
        runs = [_shown(name, about, names) for name, about in sorted(dispatcher.last_runs().items())]
        if run:
            found = dispatcher.read(run)
            asked = (
                _progress(found, names)
                if found
                else {"state": "sent", "name": f"sweep {kind or ''}", "parts": [], "told": ""}
            )
    except UnavailableError as error:
        why = str(error)
    interval, orphans = here.settings.cleanup_interval, here.settings.orphan_interval
    every = {Kind.IDLE: interval, Kind.EXPIRED: interval, Kind.ORPHANS: orphans}
    # beats agree on slots of the store's time: each kind is due when its next one begins
    clock = here.store.execute(op.Facts()).now / 1000
    upcoming = [(kind, seconds - clock % seconds) for kind, seconds in every.items()]
    return page(request, "sweeps.html", runs=runs, asked=asked, why=why, kinds=list(every.items()), upcoming=upcoming,
                now=datetime.now(UTC))  # fmt: skip


@router.post(f"{UI}/sweeps/{{kind}}")
def sweep(request: Request, here: Here, visit: Actor, kind: Kind) -> Response:
    """Sends a pass to the workers, and goes to the page that follows it."""
    return back_to(request, here, f"{UI}/sweeps", run=_send(here, kind), kind=kind)


def _send(here: Desk, kind: Kind) -> str:
    return here.dispatch(f"{PREFIX}sweep_{kind}")


def _shown(name: str, about: Mapping[str, Any], names: naming.Names) -> dict[str, Any]:
    task, _, volume = name.partition(":")
    at = about["at"]
    return {
        "name": task.removeprefix(PREFIX).replace("_", " "),
        "volume": names.label(f"v.{volume}") if volume else "",
        "state": about["state"],
        "node": about["node"],
        "at": datetime.fromtimestamp(at / 1000, UTC) if 0 < at < MOST else None,
        "told": _told(about["result"]),
    }


def _progress(found: Mapping[str, Any], names: naming.Names) -> dict[str, Any]:
    parts = [
        {**_shown(f"{part['name']}:{row.rpartition('.')[2]}", part, names)}
        for row, part in sorted(found["parts"].items())
    ]
    whole = _shown(found["name"], found, names)
    return {**whole, "parts": parts}


def _told(result: Mapping[str, Any]) -> str:
    """A pass's result in words: what isn't zero."""
    words = []
    for key, value in result.items():
        if not value or key == "more":
            continue
        label = key.replace("_", " ")
        if key == "seconds":
            continue
        if isinstance(value, list):
            words.append(f"{label} {', '.join(map(str, value))}")
        elif key.startswith("bytes") and isinstance(value, int):
            words.append(f"{format_size(max(0, value))} {label.replace('bytes', '').strip()}".strip())
        elif isinstance(value, int | float) and not isinstance(value, bool):
            words.append(f"{value:,} {label.removesuffix('s') if value == 1 else label}")
        else:
            words.append(f"{label}: {value}")
    seconds = result.get("seconds")
    if isinstance(seconds, int | float):
        words.append(f"in {brief(seconds)}" if seconds >= 1 else "in under 1s")
    return ", ".join(words)
