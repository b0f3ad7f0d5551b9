"""A deployment with a past: what was done in it, and the snapshots that upkeep took meanwhile."""

from __future__ import annotations

from admin_client import Admin

FOREVER = {"idle_timeout": 400 * 86_400, "max_duration": 0}  # of sessions that nothing but the test ends


def past(admin: Admin, steps: int = 4, seconds: float = 3600) -> None:
    """One session more in each step than in the one before; each ends in the next."""
    node, alive = admin.node, []
    node.upkeep.run_once()
    for step in range(steps):
        for session in alive:
            session.end()
        alive = [node.sessions.create()[0] for _ in range(step + 1)]
        node.advance(seconds)
        node.upkeep.run_once()
