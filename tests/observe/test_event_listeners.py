"""Whatever an app's logging and hooks do, the other listeners hear every event."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator

import pytest

from sessionsweep.engine.forward import Forward
from sessionsweep.model.events import Event, EventName
from sessionsweep.observe import log as event_log
from sessionsweep.observe.hooks import Hooks
from sessionsweep.store.memory.events import EventLog
from sessionsweep.units import moment
from sessionsweep_workers.lane import Lane
from support.nodes import Node


@pytest.fixture
def with_session_ids() -> Iterator[None]:
    """An app whose records know of a session of its own, as tracing libraries do."""
    before = logging.getLogRecordFactory()

    def factory(*about: object, **more: object) -> logging.LogRecord:
        record = before(*about, **more)
        record.session_id = record.event_id = "the app's"
        return record

    logging.setLogRecordFactory(factory)
    yield
    logging.setLogRecordFactory(before)


def test_a_factory_of_records_with_our_names(with_session_ids: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, event_log.NAME)
    event_log.tell(Event("00:1-1", 1000, EventName.SESSION_CREATED, "s" * 20))
    [record] = caplog.records
    assert (record.getMessage(), record.session_id) == ("session_created", "the app's")  # type: ignore[attr-defined]
    assert (record.session_id_, record.event_id_) == ("s" * 20, "00:1-1")  # type: ignore[attr-defined]


def test_a_filter_that_raises_keeps_no_event_from_the_hooks(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, event_log.NAME)

    def broken(record: logging.LogRecord) -> bool:
        raise ZeroDivisionError

    logger = logging.getLogger(event_log.NAME)
    logger.addFilter(broken)
    told: list[str] = []
    try:
        for _ in range(3):
            node.sessions.create()
        Forward(node.core, node.store, hooks=Hooks(functions=[lambda event: told.append(event.name)])).run_once()
    finally:
        logger.removeFilter(broken)
    assert told == ["session_created"] * 3
    assert [r.message for r in caplog.records if r.exc_info].count(
        "logging an event failed at session_created (told at most once a minute)"
    ) == 1  # fmt: skip


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(3), GeneratorExit(), BaseException("gone")])
def test_whatever_a_hook_raises_the_others_are_told(error: BaseException) -> None:
    told: list[str] = []

    def raises(event: Event) -> None:
        raise error

    hooks = Hooks(functions=[raises, lambda event: told.append(event.id)])
    events = [Event(f"00:1-{n}", 1000, EventName.SESSION_CREATED) for n in range(2)]
    assert [hooks.tell(event) for event in events] == [1, 1]
    assert told == ["00:1-0", "00:1-1"]


def test_a_lane_survives_whatever_a_job_raises() -> None:
    lane, done = Lane("test"), threading.Event()

    def raises() -> None:
        raise asyncio.CancelledError

    lane.start()
    lane.ask("one", raises)
    lane.ask("two", done.set)
    assert done.wait(30)
    lane.stop(10)


def test_a_time_that_no_datetime_can_tell_is_told_as_near_as_can_be() -> None:
    poisoned = Event("00:300000000000000-0", 300_000_000_000_000, EventName.SESSION_CREATED)
    assert event_log.fields(poisoned)["at"] == "9999-12-31T23:59:59.000+00:00"
    assert moment(-1).year == 1970


def test_memory_remembers_what_it_told_for_a_second_or_two() -> None:
    log = EventLog()
    assert [log.once(0, "a"), log.once(999, "a"), log.once(1000, "a"), log.once(1001, "a")] == [
        True,
        False,
        True,
        False,
    ]
    for n in range(5000):
        log.once(2000 + n, f"key {n}")
    assert len(log._told) <= 2000
