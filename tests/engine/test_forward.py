"""The forwarder: every event is told at least once, in order; hooks that raise, hang or aren't there harm nobody."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import redis

from sessionsweep import ConfigurationError, Sessions, Settings
from sessionsweep.engine import forward as forwarding
from sessionsweep.engine.forward import TABLE, Forward
from sessionsweep.engine.inprocess import InProcessSweeper
from sessionsweep.model.events import DEPLOYMENT, Event, EventName
from sessionsweep.observe import log as event_log
from sessionsweep.observe.hooks import Hooks, resolve
from sessionsweep.store import operations as op
from support.nodes import Node
from support.processes import wait_until


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The logger of events is off, as it is where nobody configured logging."""
    logger = logging.getLogger(event_log.NAME)
    logger.setLevel(logging.WARNING)
    yield
    logger.setLevel(logging.NOTSET)


def forward(node: Node, *hooks: Callable[[Event], object]) -> Forward:
    return Forward(node.core, node.store, Hooks((), hooks))


def kept(node: Node, partition: str = "00") -> list[str]:
    """The ids of all events that a stream holds."""
    return [event.id for event in node.store.execute(op.Events(partition)).events]


def test_each_event_is_told_once_and_in_order(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "BATCH", 3)
    told: list[Event] = []
    first = forward(node, told.append)
    for _ in range(5):
        session, _ = node.sessions.create()
    session.end()
    assert first.run_once().events == len(kept(node)) >= 6
    node.store.execute(op.Emit(EventName.HOLD_LIFTED, fields={"scope": "all"}))
    first.run_once()
    first.close()
    node.sessions.create()
    forward(node, told.append).run_once()
    assert [event.id for event in told if event.partition == "00"] == kept(node)
    assert [event.name for event in told if event.partition == DEPLOYMENT] == [EventName.HOLD_LIFTED]


def test_what_was_told_and_not_saved_is_told_again(node: Node) -> None:
    told: list[str] = []
    node.sessions.create()
    node.sessions.create()

    def dies(event: Event) -> None:
        told.append(event.id)
        if len(told) == 2:
            raise KeyboardInterrupt  # stands for a kill: nothing after it runs

    killed = forward(node, dies)
    with pytest.raises(KeyboardInterrupt):
        killed.run_once()
    killed.close()  # its lease lapses
    forward(node, dies).run_once()
    assert told == [*kept(node), *kept(node)]


def test_a_hook_that_raises_is_told_of_and_passed_over(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    def broken(event: Event) -> None:
        raise RuntimeError(f"not {event.name}")

    def leaves(event: Event) -> None:
        sys.exit(3)

    for _ in range(3):
        node.sessions.create()
    result = forward(node, broken, leaves, lambda event: told.append(event.id)).run_once()
    assert (told, result.events, result.failed) == (kept(node), 3, 6)
    complaints = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(complaints) == 2, "a hook is told of once a minute, not with each event"
    assert "broken" in complaints[0].getMessage()
    assert complaints[0].exc_info is not None


def test_one_process_at_a_time_forwards(node: Node) -> None:
    told: list[str] = []
    first, second = (forward(node, lambda event: told.append(event.id)) for _ in range(2))
    node.sessions.create()
    assert first.run_once().events == 1
    node.sessions.create()
    assert second.run_once().elsewhere
    assert first.run_once().events == 1
    first.close()
    assert not second.run_once().elsewhere
    assert told == kept(node)


def test_who_lost_its_lease_in_a_slow_hook_stops_and_takes_no_cursor_back(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "SAVE", 0.0)  # renews behind each event
    hanging, told = threading.Event(), list[str]()
    for _ in range(3):
        node.sessions.create()

    def hangs(event: Event) -> None:
        node.store.execute(op.DropLease(TABLE, slow._token))  # as if it had lapsed
        told.append(event.id)
        forward(node, lambda event: told.append(f"second {event.id}")).run_once()
        hanging.set()

    slow = forward(node, hangs)
    result = slow.run_once()
    assert (hanging.is_set(), result.elsewhere, result.events) == (True, True, 1)
    assert told == [kept(node)[0], *(f"second {one}" for one in kept(node))]
    assert node.store.execute(op.Table(TABLE))["00"] == kept(node)[-1]


def test_events_that_were_dropped_unread_are_told_of_once(node: Node, redis_url: str, namespace: str) -> None:
    told: list[Event] = []
    reader = forward(node, told.append)
    node.sessions.create()
    reader.run_once()
    for _ in range(4):
        node.sessions.create()
    with redis.Redis.from_url(redis_url) as client:
        client.xtrim(f"{namespace}:{{00}}:ev", maxlen=2, approximate=False)
    assert reader.run_once().lost == 1
    assert reader.run_once().lost == 0
    assert [event.name for event in told[1:]] == [EventName.EVENTS_LOST, *[EventName.SESSION_CREATED] * 2]
    assert told[1].at == told[2].at
    assert len({event.id for event in told}) == len(told), "whoever knows ids again passes none over"
    assert told[1].partition == "00"


def test_a_gap_that_is_told_again_has_the_same_id(node: Node, redis_url: str, namespace: str) -> None:
    told: list[str] = []
    node.sessions.create()
    first = forward(node, lambda event: told.append(event.id))
    first.run_once()
    first.close()

    def dies(event: Event) -> None:
        told.append(event.id)
        raise KeyboardInterrupt  # stands for a kill: nothing after it runs

    for left in (3, 2):  # more of it is dropped until it is told again
        for _ in range(4):
            node.sessions.create()
        with redis.Redis.from_url(redis_url) as client:
            client.xtrim(f"{namespace}:{{00}}:ev", maxlen=left, approximate=False)
        killed = forward(node, dies)
        with pytest.raises(KeyboardInterrupt):
            killed.run_once()
        killed.close()  # its lease lapses
    assert told[1] == told[2]
    assert told[0] not in told[1:]


@pytest.mark.parametrize("cursor", ["", "$", "x", "00:", "00:1-" + "9" * 30, "01:1-1", "00:1-1,"])
def test_a_damaged_cursor_begins_anew(node: Node, cursor: str) -> None:
    node.sessions.create()
    node.store.execute(op.TablePut(TABLE, "00", cursor))
    told: list[str] = []
    forward(node, lambda event: told.append(event.id)).run_once()
    assert told == kept(node)


def test_where_nobody_listens_nothing_is_read(node: Node) -> None:
    node.sessions.create()
    idle = forward(node)
    assert not idle.wanted
    assert idle.run_once().events == 0
    assert node.store.execute(op.Table(TABLE)) == {}
    logging.getLogger(event_log.NAME).setLevel(logging.INFO)
    assert idle.wanted
    assert idle.run_once().events == 1


def test_the_log_has_constant_names_and_fields(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, event_log.NAME)
    session, _ = node.sessions.create()
    session.end()
    forward(node).run_once()
    created, ended = (record for record in caplog.records if record.name == event_log.NAME)
    assert (created.getMessage(), ended.getMessage()) == ("session_created", "session_ended")
    assert (created.session_id, ended.reason, ended.owed) == (session.id, "logout", 0)  # type: ignore[attr-defined]
    assert created.event_id == kept(node)[0]  # type: ignore[attr-defined]


def test_no_field_of_an_event_breaks_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, event_log.NAME)
    fields = {"name": "x", "args": "%s %d", "message": "m", "at": "then", "text": "100 %s"}
    event_log.tell(Event("00:1-1", 1000, EventName.HOLD_SET, fields=fields))
    [record] = caplog.records
    assert (record.getMessage(), record.name) == ("hold_set", event_log.NAME)
    assert (record.name_, record.at_, record.at) == ("x", "then", "1970-01-01T00:00:01.000+00:00")  # type: ignore[attr-defined]


HOOKS = """
import functools
def tell(event): pass
async def later(event): pass
def two(event, more): pass
class Sink:
    def __call__(self, event): pass
    async def later(self, event): pass
sink = Sink()
partly = functools.partial(two, more=1)
number = 5
"""


@pytest.fixture
def hooks_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "some_hooks.py").write_text(HOOKS)
    (tmp_path / "broken_hooks.py").write_text("1 / 0")
    (tmp_path / "needy_hooks.py").write_text("import no_such_thing")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("some_hooks", "broken_hooks", "needy_hooks"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("hooks_module")
@pytest.mark.parametrize("name", ["some_hooks:tell", "some_hooks:sink", "some_hooks:partly", "builtins:print"])
def test_a_hook_is_found_by_its_name(name: str) -> None:
    assert callable(resolve(name))


@pytest.mark.usefixtures("hooks_module")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_hooks:tell", "there is no module 'no_such_hooks' here"),
        ("some_hooks.more:tell", "there is no module 'some_hooks.more' here"),
        ("needy_hooks:tell", "importing 'needy_hooks' failed: No module named 'no_such_thing'"),
        ("broken_hooks:tell", "importing 'broken_hooks' failed: ZeroDivisionError"),
        ("some_hooks:tel", "'some_hooks' has no 'tel'; did you mean 'tell'?"),
        ("some_hooks:number", "is int, not a function"),
        ("some_hooks:later", "is asynchronous"),
        ("some_hooks:sink.later", "is asynchronous"),
        ("some_hooks:two", "can't be called with one argument"),
    ],
)
def test_a_hook_that_is_none_is_named_with_the_fix(name: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Hooks([name])
    assert str(raised.value).startswith(f"SESSIONSWEEP_EVENT_HOOKS: {name!r}")
    assert said in str(raised.value)


def test_the_in_process_sweeper_tells_while_a_hook_hangs_it_cleans(tmp_path: Path, namespace: str) -> None:
    settings = Settings(
        redis_url="memory://", namespace=namespace, volumes=f"m={tmp_path / 'm'}", idle_timeout=600,
        cleanup_interval=0.1,
    )  # fmt: skip
    sessions = Sessions(settings)
    told, release = list[Event](), threading.Event()

    def hangs(event: Event) -> None:
        told.append(event)
        release.wait(60)

    sweeper = InProcessSweeper(sessions.core, sessions.store, on_event=hangs)
    sweeper.ensure()
    try:
        session, _ = sessions.create()
        with session.new_file() as f:
            f.write(b"x")
        wait_until(lambda: told, what="the hook hangs")
        session.end()
        wait_until(lambda: not f.path.exists(), what="the file is deleted meanwhile")
        assert [event.name for event in told] == [EventName.SESSION_CREATED]
        other, _ = sessions.create()
        release.set()
        wait_until(lambda: other.id in [event.session_id for event in told], what="the rest is told")
    finally:
        release.set()
        sweeper.stop()
        sessions.close()
    assert told[0].session_id == session.id


def test_processes_that_a_server_forks_do_not_share_a_lease(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = forward(node, print)
    mine = parent._token
    monkeypatch.setattr("os.getpid", partial(int, 1))
    assert parent._token != mine
