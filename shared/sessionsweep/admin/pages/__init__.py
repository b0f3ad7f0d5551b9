"""The dashboard: pages at `/admin/` for whoever is on call, rendered here, and all of it shipped with the package."""

from __future__ import annotations

from fastapi import FastAPI

from sessionsweep.admin.desk import Desk
from sessionsweep.admin.pages import entry, events, overview, sessions, sweeps, trends, upkeep
from sessionsweep.admin.pages.visits import Visits

__all__ = ["install"]


def install(app: FastAPI, desk: Desk) -> None:
    """Adds the pages to the admin side's app. No page is part of the API, nor of its description."""
    app.state.visits = Visits(desk.settings)
    pages = (overview.router, sessions.router, events.router, events.follow_router, upkeep.router, sweeps.router)
    for router in (*pages, trends.router, entry.router):  # entry last: it answers what no page does
        app.include_router(router, prefix=desk.prefix, include_in_schema=False)
    app.add_route("/", entry.to_dashboard, include_in_schema=False)
