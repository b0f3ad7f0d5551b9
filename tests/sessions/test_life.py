"""A session's life as an application sees it: create, open, log in, save, extend, track, end, list."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sessionsweep import (
    Client,
    ClientMismatchError,
    InvalidTokenError,
    LimitReachedError,
    SessionEndedError,
)
from sessionsweep.store import operations as op
from support.books import members
from support.nodes import Node
from support.processes import wait_until

HOME = Client("203.0.113.7", "Firefox")


def test_a_session_made_on_one_node_opens_on_another(make_node: Callable[..., Node]) -> None:
    a, b = make_node("a"), make_node("b")
    made, token = a.sessions.create(HOME, data={"theme": "dark"})
    opened = b.sessions.open(token, HOME)
    assert opened.id == made.id
    assert opened.data == {"theme": "dark"}
    assert opened.request_count == 2
    assert opened.expires_in == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: "",
        lambda t: t[:-1],
        lambda t: t + "x",
        lambda t: t.replace(".", ":"),
        lambda t: t[:21] + "A" * 43,
        lambda t: "00" + "0" * 18 + t[20:],
        lambda t: "../../etc/passwd." + t[21:],
        lambda t: t[:20] + "." + "é" * 43,
    ],
)
def test_whatever_is_wrong_with_a_token_the_answer_is_one(node: Node, spoil: Callable[[str], str]) -> None:
    _, token = node.sessions.create(HOME)
    with pytest.raises(InvalidTokenError) as caught:
        node.sessions.open(spoil(token), HOME)
    assert str(caught.value) == str(InvalidTokenError())
    assert node.sessions.open(token, HOME).request_count == 2, "a bad token neither touches nor ends"


def test_the_store_never_holds_the_secret(node: Node, redis_url: str) -> None:
    import redis

    _, token = node.sessions.create(HOME, user="ana")
    secret = token.split(".")[1].encode()
    client = redis.Redis.from_url(redis_url)
    for key in client.keys(f"{node.settings.namespace}*"):
        assert secret not in (client.dump(key) or b"")
    client.close()


def test_an_idle_session_is_dead_to_every_request_without_any_sweep(node: Node) -> None:
    _, token = node.sessions.create(HOME)
    node.advance(9.9)
    node.sessions.open(token, HOME)
    node.advance(10)
    with pytest.raises(SessionEndedError) as caught:
        node.sessions.open(token, HOME)
    assert caught.value.reason == "idle"
    assert node.sessions.stats().ended_by_reason == {"idle": 1}


def test_activity_does_not_outlast_the_maximum_duration(node: Node) -> None:
    _, token = node.sessions.create(HOME)
    for _ in range(12):
        node.advance(8)
        node.sessions.open(token, HOME)
    node.advance(4)
    with pytest.raises(SessionEndedError) as caught:
        node.sessions.open(token, HOME)
    assert caught.value.reason == "expired"


def test_reading_never_renews(node: Node) -> None:
    session, token = node.sessions.create(HOME)
    node.advance(6)
    assert node.sessions.attach(session.id).expires_in == pytest.approx(4, abs=0.1)
    assert node.sessions.open(token, HOME, touch=False).expires_in == pytest.approx(4, abs=0.1)
    assert node.sessions.get(session.id) is not None
    node.sessions.list()
    node.advance(5)
    assert node.sessions.get(session.id) is None


def test_log_in_rotates_the_token_and_keeps_the_files(node: Node) -> None:
    session, _, path = node.session_with_file()
    anonymous, token = node.sessions.create(HOME)
    rid, _ = node.write(anonymous)
    fresh = anonymous.log_in("ana")
    with pytest.raises(InvalidTokenError):
        node.sessions.open(token, HOME)
    again = node.sessions.open(fresh, HOME)
    assert again.user == "ana"
    assert [r.id for r in again.resources()] == [rid]
    assert path.exists()
    assert session.id != again.id


def test_saving_sends_only_what_changed(make_node: Callable[..., Node]) -> None:
    a, b = make_node("a"), make_node("b")
    one, token = a.sessions.create(HOME, data={"x": 1, "y": {"deep": [1, 2.5, None, "é"]}})
    two = b.sessions.open(token, HOME)
    one.data["x"] = 2
    two.data["z"] = []
    del two.data["y"]
    assert one.save()
    assert two.save()
    assert not two.save(), "nothing changed, nothing is sent"
    assert a.sessions.open(token, HOME).data == {"x": 2, "z": []}


def test_data_that_is_not_json_is_named(node: Node) -> None:
    session, _ = node.sessions.create()
    session.data["thing"] = object()
    with pytest.raises(TypeError, match="'thing'"):
        session.save()


def test_extend_sets_and_never_adds(node: Node) -> None:
    session, _ = node.sessions.create(HOME)
    session.extend(idle=3)
    session.extend(idle=3)
    assert session.expires_in == pytest.approx(3, abs=0.1)
    node.advance(3.2)  # and one slot of the wheel
    result = node.sweep.run_once()
    assert result.idle == 1, "a shortened session is found at its new time"


@pytest.mark.parametrize("wrong", [{"idle": 0}, {"idle": -1}, {"max_duration": -5}])
def test_a_timeout_that_can_not_be_is_refused(node: Node, wrong: dict[str, float]) -> None:
    session, _ = node.sessions.create()
    with pytest.raises(ValueError, match="seconds"):
        session.extend(**wrong)
    session.extend(max_duration=0)
    assert session.expires_in == 10
    assert node.sessions.get(session.id) is not None


def test_logging_out_is_final_everywhere(make_node: Callable[..., Node]) -> None:
    a, b = make_node("a"), make_node("b")
    session, token = a.sessions.create(HOME)
    assert session.end()
    assert not session.end()
    with pytest.raises(InvalidTokenError):
        b.sessions.open(token, HOME)


def test_all_sessions_of_a_user_but_this_one(make_node: Callable[..., Node]) -> None:
    a, b = make_node("a"), make_node("b")
    kept, token = a.sessions.create(HOME, user="ana")
    others = [b.sessions.create(HOME, user="ana")[1] for _ in range(3)]
    bob, bobs = b.sessions.create(HOME, user="bob")
    assert b.sessions.end_user("ana", except_id=kept.id) == 3
    for other in others:
        with pytest.raises(InvalidTokenError):
            a.sessions.open(other, HOME)
    assert a.sessions.open(token, HOME).id == kept.id
    assert a.sessions.open(bobs, HOME).id == bob.id


def test_a_key_of_your_own_names_one_session(make_node: Callable[..., Node]) -> None:
    a, b = make_node("a"), make_node("b")
    one = a.sessions.track("auth0:42", user="ana")
    assert b.sessions.track("auth0:42").id == one.id
    assert a.sessions.end(key="auth0:42")
    assert not a.sessions.end(key="auth0:42")
    again = b.sessions.track("auth0:42", user="ana")
    assert again.id != one.id
    a.advance(11)
    assert b.sessions.track("auth0:42", user="ana").id not in (one.id, again.id), "a due session isn't handed out"


def test_listing_returns_what_lives_once(node: Node) -> None:
    ids = {node.sessions.create(HOME)[0].id for _ in range(25)}
    seen: list[str] = []
    cursor = None
    while True:
        page, cursor = node.sessions.list(cursor=cursor, limit=7)
        seen += [s.id for s in page]
        if cursor is None:
            break
    assert set(seen) == ids


@pytest.mark.parametrize(
    ("mode", "other", "refused"),
    [
        ("strict", Client("203.0.113.8", "Firefox"), True),
        ("strict", Client("203.0.113.7", "Chrome"), True),
        ("subnet", Client("203.0.113.200", "Firefox"), False),
        ("subnet", Client("203.0.114.7", "Firefox"), True),
        ("log", Client("198.51.100.1", "Chrome"), False),
        ("off", Client("198.51.100.1", "Chrome"), False),
    ],
)
def test_binding_to_the_client(make_node: Callable[..., Node], mode: str, other: Client, refused: bool) -> None:
    node = make_node(client_binding=mode, trusted_proxies="none")
    _, token = node.sessions.create(HOME)
    if refused:
        with pytest.raises(ClientMismatchError):
            node.sessions.open(token, other)
        assert node.sessions.open(token, HOME).request_count == 2, "a mismatch neither touches nor ends"
    else:
        assert node.sessions.open(token, other).request_count == 2


def test_a_dual_stack_client_keeps_one_address_per_family(make_node: Callable[..., Node]) -> None:
    node = make_node(client_binding="strict", trusted_proxies="none")
    _, token = node.sessions.create(HOME)
    node.sessions.open(token, Client("2001:db8::1", "Firefox"))
    node.sessions.open(token, HOME)
    with pytest.raises(ClientMismatchError):
        node.sessions.open(token, Client("2001:db8::2", "Firefox"))


def test_an_older_key_still_verifies(make_node: Callable[..., Node]) -> None:
    old = make_node(secret_key="o" * 40)
    new = make_node(secret_key=f"{'n' * 40},{'o' * 40}")
    _, token = old.sessions.create(HOME)
    session = new.sessions.open(token, HOME)
    fresh = session.rotate()
    with pytest.raises(InvalidTokenError):
        old.sessions.open(fresh, HOME)
    assert new.sessions.open(fresh, HOME).id == session.id


def test_at_a_users_limit_the_new_one_is_refused_or_the_oldest_ends(make_node: Callable[..., Node]) -> None:
    refusing = make_node(max_sessions_per_user=2)
    ending = make_node(max_sessions_per_user=2, on_user_limit="end-oldest")
    first, _ = refusing.sessions.create(HOME, user="ana")
    refusing.advance(1)
    refusing.sessions.create(HOME, user="ana")
    with pytest.raises(LimitReachedError, match="MAX_SESSIONS_PER_USER"):
        refusing.sessions.create(HOME, user="ana")
    ending.sessions.create(HOME, user="ana")
    assert refusing.sessions.get(first.id) is None
    assert len(refusing.sessions.list(user="ana")[0]) == 2


def test_sessions_that_are_due_but_not_swept_lock_nobody_out(make_node: Callable[..., Node]) -> None:
    node = make_node(max_sessions=3, max_sessions_per_user=2)
    for user in ("ana", "ana", "bob"):
        node.sessions.create(HOME, user=user)
    with pytest.raises(LimitReachedError, match="MAX_SESSIONS"):
        node.sessions.create(HOME)
    node.advance(10)
    node.sessions.create(HOME, user="ana")
    node.sessions.create(HOME, user="ana")
    assert node.sessions.stats().active_sessions == 2


def test_made_up_tokens_leave_no_key(node: Node, redis_url: str) -> None:
    import redis

    from sessionsweep.model.ids import new_session_id
    from sessionsweep.model.session import new_secret

    for _ in range(1000):
        with pytest.raises(InvalidTokenError):
            node.sessions.open(f"{new_session_id('00')}.{new_secret()}", HOME)
    client = redis.Redis.from_url(redis_url)
    assert client.keys(f"{node.settings.namespace}*") == []
    client.close()


def test_an_ended_session_is_never_resurrected_by_a_late_call(node: Node) -> None:
    session, _, _ = node.session_with_file()
    session.end()
    session.data["late"] = True
    for late in (session.save, session.extend, session.rotate, lambda: session.log_in("ana")):
        with pytest.raises(SessionEndedError):
            late()
    assert node.store.execute(op.PeekSession(session.id)).record is None


@pytest.mark.parametrize("user", ["", "ana\0bob", "ana\nbob", "\x85", "é" * 128, "\ud800"])
def test_a_users_name_that_no_list_could_hold_is_refused_before_anything_happens(node: Node, user: str) -> None:
    session, _ = node.sessions.create(HOME)
    for name in (session.log_in, node.sessions.end_user):
        with pytest.raises(ValueError, match="give"):
            name(user)
    with pytest.raises(ValueError, match="give"):
        node.sessions.create(HOME, user)
    with pytest.raises(ValueError, match="give"):
        node.sessions.track("key", user)
    assert node.sessions.attach(session.id).user is None
    assert session.end()


def test_the_longest_name_a_user_may_have_is_bound_listed_and_given_back(node: Node) -> None:
    user = "é" * 127 + "x"
    session, _ = node.sessions.create(HOME)
    session.log_in(user)
    listed, _ = node.sessions.list(user)
    assert [found.id for found in listed] == [session.id]
    assert session.end()
    assert members(node.store.execute, user) == ()


@pytest.mark.parametrize("noted", [True, False])
def test_while_idle_ends_are_held_nobody_is_idle(node: Node, noted: bool) -> None:
    """A server that restarted may have forgotten touches, also as long as no worker has noted that it did."""
    session, token = node.sessions.create()
    with session.new_file() as f:
        f.write(b"x")
    if noted:
        node.store.execute(op.HoldIdle(session.id[:2], 60_000))
    else:
        node.store._send(["HSET", node.store.keys.held(session.id[:2]), "run", "of another server"], "", False)
    node.advance(11)
    assert node.sessions.get(session.id) is not None
    assert [one.id for one in node.sessions.list()[0]] == [session.id]
    assert [one.id for one in node.sessions.attach(session.id).resources()] == [f.id]
    session.open_file(f.id).close()
    assert node.sweep.run_once().idle == 0
    assert node.sessions.open(token).id == session.id
    node.advance(100)
    assert node.sessions.get(session.id) is None, "its absolute end counts as ever"
    assert node.sessions.list()[0] == []


def test_a_record_that_cannot_be_read_hides_and_spares_no_other(node: Node) -> None:
    victims = [node.sessions.create(user="ana")[0] for _ in range(3)]
    broken = victims[1].id
    node.store._send(["SET", node.store.keys.session(broken), b"\x01short"], "", False)
    assert {one.id for one in node.sessions.list()[0]} == {one.id for one in victims} - {broken}
    assert {one.id for one in node.sessions.list(user="ana")[0]} <= {one.id for one in victims} - {broken}
    assert node.sessions.end_user("ana") <= 2
    assert node.sessions.list()[0] == []


def test_what_an_old_token_opened_saves_nothing_after_a_log_in(node: Node) -> None:
    session, token = node.sessions.create(data={"theirs": 1})
    planted = node.sessions.open(token)
    new = session.log_in("ana")
    planted.data["theirs"] = 2
    with pytest.raises(SessionEndedError):
        planted.save()
    assert node.sessions.open(new).data == {"theirs": 1}
    session.data["mine"] = 1
    assert session.save(), "who logged in has the new token"
    job = node.sessions.attach(session.id)
    session.rotate()
    job.data["done"] = True
    assert job.save(), "trusted code has no token"
    assert node.sessions.attach(session.id).data == {"theirs": 1, "mine": 1, "done": True}


def test_a_log_in_closes_what_the_old_token_streams(node: Node) -> None:
    session, token = node.sessions.create()
    reasons: list[str] = []
    file, _ = node.write(session)

    def closing(reason: str) -> None:
        reasons.append(reason)

    with node.sessions.open(token).stream("chat", close=closing):
        assert node.sessions.attach(session.id).stream_count == 1
        new = session.log_in("ana")
        wait_until(lambda: reasons, 20, "the stream is told")
        wait_until(lambda: node.sessions.attach(session.id).stream_count == 0, 20, "and its place is free")
    with node.sessions.open(new).stream("chat", close=closing):
        assert node.sessions.attach(session.id).stream_count == 1
    assert reasons == ["released"]
    assert [one.id for one in session.resources()] == [file], "files stay"
