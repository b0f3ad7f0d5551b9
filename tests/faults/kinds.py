"""What the other kinds of process do in one go: an asynchronous web node, an operator, a beat, a forwarder of events.

Each function prepares and answers what is to be killed at each of its steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sessionsweep import AsyncSessions, Settings
from sessionsweep.engine.forward import Forward
from sessionsweep.model.events import Event
from sessionsweep.observe.hooks import Hooks
from sessionsweep.store.redis.aio import AsyncRedisStore
from sessionsweep_workers.application import build
from sessionsweep_workers.beat import LeasedScheduler

if TYPE_CHECKING:
    from faults.actor import Journal, Web

Act = Callable[[], object]


def _asynchronous(order: dict[str, Any], web: Web) -> AsyncSessions:
    settings = web.sessions.settings
    store = AsyncRedisStore(settings.redis_url, settings.namespace, test_clock=order["test_clock"])
    return AsyncSessions(settings, store=store)


def async_file(order: dict[str, Any], web: Web, journal: Journal) -> Act:
    """A file of an asynchronous node's session."""
    token = web.create().token
    sessions = _asynchronous(order, web)

    async def act() -> None:
        session = await sessions.open(token)
        async with session.new_file("fault", ".bin") as f:
            await f.write(b"x" * 1000)
        await sessions.close()

    return lambda: asyncio.run(act())


def async_end(order: dict[str, Any], web: Web, journal: Journal) -> Act:
    """The end of such a session, and one of its files' before."""
    known = web.create()
    for _ in range(2):
        web.new_file(known, web.sessions.open(known.token))
    sessions = _asynchronous(order, web)

    async def act() -> None:
        session = await sessions.open(known.token)
        await session.delete(next(iter(known.files)))
        await session.end()
        await sessions.close()

    return lambda: asyncio.run(act())


def end_user(order: dict[str, Any], web: Web, journal: Journal) -> Act:
    """An operator's word: everywhere where this user is logged in, now no more."""
    for _ in range(3):
        session, token = web.sessions.create(user="mallory")
        journal.tell("mallory", token=token)
        with session.new_file("fault") as f:
            f.write(b"mallory's")
    return lambda: web.sessions.end_user("mallory")


def forward(order: dict[str, Any], web: Web, journal: Journal) -> Act:
    """Events told to a hook."""
    for _ in range(2):
        web.sessions.create()[0].end()

    def told(event: Event) -> None:
        journal.tell("told", id=event.id)

    return Forward(web.sessions.core, web.store, Hooks(functions=[told])).run_once


def beat(order: dict[str, Any], web: Web, journal: Journal) -> Act:
    """One look of a beat at its schedule."""
    scheduler = LeasedScheduler(build(Settings(**order["settings"])))
    return scheduler.tick


KINDS: dict[str, Callable[[dict[str, Any], Any, Any], Act]] = {
    one.__name__: one for one in (async_file, async_end, end_user, forward, beat)
}
