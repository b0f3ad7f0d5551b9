"""The live feed of events: one poller of this process for all who follow it, none of whom holds up another."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from sessionsweep.admin.problems import UnavailableError
from sessionsweep.errors import StoreError
from sessionsweep.integrations.events import HEADERS, KEEP_ALIVE, MIMETYPE, SILENCE, frame
from sessionsweep.model.events import Event, EventName
from sessionsweep.operator import naming, timeline
from sessionsweep.operator.events import of_event
from sessionsweep.operator.naming import Names
from sessionsweep.operator.reached import Deployment
from sessionsweep.operator.timeline import Cursors, Page, Wanted

log = logging.getLogger(__name__)

POLL = 1.0  # seconds between two looks at streams that hold no more, however many follow
FOLLOWERS = 32  # at once in this process
OF_ONE_TOKEN = 24  # of these; whoever has another token finds a place, whatever is done with one that leaked
BATCH = 500  # events of one look
WAITING = 4 * BATCH  # events that wait for a follower; beyond these it reads for itself, as fast as its client takes it
STALLED = 20.0  # seconds that a client may take none of what is sent to it
AWAY, BACK = "away", "back"  # how clients are told that the store doesn't answer, and does again
RETRY = 3000  # ms after which a client that lost its connection comes back


class TooManyFollowersError(UnavailableError):
    """This process has as many followers as it takes, in all or of one token."""

    def __init__(self, most: int) -> None:
        super().__init__(f"{most} clients follow the events here already; poll the JSON pages, or try again later.")


class Feed:
    """What happens in one deployment, as this process's followers hear of it. Polls only while there are any."""

    def __init__(self, here: Deployment) -> None:
        self._here = here
        self._lock = threading.Lock()
        self._followers: set[Follower] = set()
        self._at: Cursors | None = None  # behind what was handed to all followers; None: nobody polls
        self._over = threading.Event()

    @property
    def count(self) -> int:
        """How many follow."""
        return len(self._followers)

    def follow(
        self,
        wanted: Wanted,
        cursors: Cursors | None = None,
        until: datetime | None = None,
        is_over: Callable[[], bool] | None = None,
        by: bytes = b"",
    ) -> Follower:
        """A new follower: of what comes from now on, or behind the cursors. It must `leave`.

        Args:
            by: the token's digest.
            until: when whoever follows may read no more.
            is_over: whether it may read no more already, as after a log-out; asked before all that is told, and with
                each look at the streams. It must take no time.

        Raises:
            TooManyFollowersError, StoreError
        """
        names = self._here.run(naming.names(self._here.core))  # looks at disks: no other follower waits for them
        with self._lock:
            if len(self._followers) >= FOLLOWERS or self._over.is_set():
                raise TooManyFollowersError(FOLLOWERS)
            if sum(one.by == by for one in self._followers) >= OF_ONE_TOKEN:
                raise TooManyFollowersError(OF_ONE_TOKEN)
            if self._at is None:
                now = Cursors.of(self._here.run(timeline.streams(self._here.core)), now=True)
                self._at = timeline.page(self._here.store, now, 1).cursors
                threading.Thread(target=self._poll, name="sessionsweep-feed", daemon=True).start()
            follower = Follower(self, wanted, names, cursors, self._at, until, is_over, by)
            self._followers.add(follower)
            return follower

    def leave(self, follower: Follower) -> None:
        """Forgets a follower. Again is harmless."""
        with self._lock:
            self._followers.discard(follower)

    def close(self) -> None:
        """Ends all followers and the poller; nobody may follow afterwards. Idempotent, and safe in a signal handler."""
        self._over.set()
        for follower in list(self._followers):
            follower.wake()

    @property
    def is_over(self) -> bool:
        """Whether the feed was closed."""
        return self._over.is_set()

    def read(self, cursors: Cursors) -> Page:
        """A page behind the cursors, for whoever catches up. Raises StoreError."""
        known = cursors.over(self._here.run(timeline.streams(self._here.core)))
        return timeline.page(self._here.store, known, BATCH)

    def rejoin(self, follower: Follower) -> None:
        """Brings one that fell behind everything from here on."""
        with self._lock:
            assert self._at is not None, "the poller goes on while anybody follows"
            follower.join(self._at)

    def _stand(self, away: bool) -> bool:
        """Tells all followers whether the store answers; what it is."""
        with self._lock:
            for follower in self._followers:
                follower.stand(away)
        return away

    def _poll(self) -> None:
        away = more = False
        while not self._over.wait(0 if more else POLL):
            more = False
            with self._lock:
                if not self._followers:
                    self._at = None
                    return
                at = self._at
                for follower in self._followers:
                    if follower.is_over:
                        follower.wake()  # else it would end with the next event, or out of patience
            assert at is not None
            try:
                page = self.read(at)
                away = away and self._stand(False)
            except StoreError as error:
                if not away:
                    log.warning("the store doesn't answer, the feed of events waits: %s", error)
                away = True
                self._stand(away)
                continue
            except Exception:
                log.exception("the feed of events goes on")
                continue
            with self._lock:
                self._at, more = page.cursors, page.more
                if page.events:
                    for follower in self._followers:
                        follower.offer(page)


class Follower:
    """One client of the feed, and what waits for it."""

    def __init__(
        self,
        feed: Feed,
        wanted: Wanted,
        names: Names,
        cursors: Cursors | None,
        joined: Cursors,
        until: datetime | None,
        is_over: Callable[[], bool] | None,
        by: bytes,
    ) -> None:
        self.by = by
        self._feed = feed
        self._wanted = wanted
        self._names = names
        self._at = cursors  # it was told everything up to here; None: it wants nothing that was before
        self._joined = joined  # from here on the poller brings it everything
        self._until = until
        self._ended = is_over
        self._pages: deque[Page] = deque()
        self._overrun = False  # it fell behind: the poller brings it nothing until it joins again
        self._away = False  # the store doesn't answer
        self._cut_off = False  # it comes back and goes on where it was
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()

    def offer(self, page: Page) -> None:
        """Something happened. Called by the poller; takes no time."""
        # added up anew: a counter that this thread and the loop's both change would lose some of their changes
        waiting = sum(len(one.events) for one in tuple(self._pages))
        self._overrun = self._overrun or waiting + len(page.events) > WAITING
        if not self._overrun:
            self._pages.append(page)
        self.wake()

    def stand(self, away: bool) -> None:
        """The store doesn't answer, or does again: silence doesn't mean that nothing happens. Called by the poller."""
        self._away = away
        self.wake()

    def join(self, here: Cursors) -> None:
        """What is offered from now on comes behind `here`. Called while nothing is offered."""
        self._joined = here
        self._pages.clear()  # it reads these for itself
        self._overrun = False

    @property
    def is_over(self) -> bool:
        """Whether it may be told no more."""
        if self._feed.is_over or (self._until is not None and datetime.now(UTC) >= self._until):
            return True
        return self._ended is not None and self._ended()

    def wake(self) -> None:
        """From any thread."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # its loop is closed, and it with it
                loop.call_soon_threadsafe(self._news.set)

    def leave(self) -> None:
        """It is gone."""
        self._feed.leave(self)

    async def frames(self) -> AsyncIterator[bytes]:
        """Server-sent events, until its time is over, the feed is closed, or the store is away while it catches up."""
        self._loop = asyncio.get_running_loop()
        yield frame({"retry": str(RETRY)})
        if self._at is None:
            self._at = self._joined
            yield frame({"id": str(self._joined)})
        else:
            async for sent in self._caught_up():
                yield sent
        said_away = False
        while not (self.is_over or self._cut_off):
            self._news.clear()
            if self._away is not said_away:
                said_away = self._away
                yield frame({"event": AWAY if said_away else BACK, "data": {}})
            elif self._pages:
                page = self._pages.popleft()
                for sent in self._framed(page):
                    yield sent
                self._at = page.cursors
            elif self._overrun:
                await run_in_threadpool(self._feed.rejoin, self)
                async for sent in self._caught_up():
                    yield sent
            else:
                try:
                    async with asyncio.timeout(self._patience):
                        await self._news.wait()
                except TimeoutError:
                    yield KEEP_ALIVE

    async def _caught_up(self) -> AsyncIterator[bytes]:
        """What happened between what it was told and the moment when it joined."""
        while not self.is_over:
            assert self._at is not None
            try:
                page = await run_in_threadpool(self._feed.read, self._at)
            except StoreError:
                self._cut_off = True
                return
            for sent in self._framed(page, self._joined):
                yield sent
            self._at = page.cursors
            if not page.more or page.cursors.reach(self._joined):
                self._at = self._joined
                return

    def _framed(self, page: Page, before: Cursors | None = None) -> list[bytes]:
        told = [event for event in page.events if before is None or _is_due(event, before)]
        wanted = [of_event(event, self._names) for event in told if self._wanted.fits(event)]
        # the last alone carries the cursors, of all streams: whoever is cut off amid a page gets it all again
        behind = str(page.cursors if before is None else page.cursors.at_most(before))
        if not wanted:
            return [frame({"id": behind})]
        texts = [{"data": {**one, "at": one["at"].isoformat()}} for one in wanted]
        return [frame(text) for text in texts[:-1]] + [frame({**texts[-1], "id": behind})]

    @property
    def _patience(self) -> float:
        if self._until is None:
            return SILENCE
        return max(0.0, min(SILENCE, (self._until - datetime.now(UTC)).total_seconds()))


def _is_due(event: Event, joined: Cursors) -> bool:
    """Whether it is told while catching up. That a stream was set back stands ahead of where it is now."""
    return event.name is EventName.EVENTS_LOST or not joined.is_before(event)


class Following(StreamingResponse):
    """The answer to a follower: server-sent events. A client that takes nothing for a while is let go."""

    def __init__(self, follower: Follower) -> None:
        super().__init__(follower.frames(), headers=HEADERS, media_type=MIMETYPE)
        self._follower = follower

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """See the ASGI specification."""

        async def patient(message: Any) -> None:
            with anyio.fail_after(STALLED):
                await send(message)

        try:
            await super().__call__(scope, receive, patient)
        except TimeoutError:
            log.info("a client took no events for %g s and is let go", STALLED)
        finally:
            self._follower.leave()
