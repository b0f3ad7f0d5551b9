"""What Django asks of any session backend, over both stores, sync and async: its own SessionTestsMixin, rewritten."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from support import django_site

django_site.ready()

from django.contrib.sessions.backends.base import CreateError, UpdateError  # noqa: E402
from django.contrib.sessions.exceptions import SessionInterrupted  # noqa: E402
from django.core import signing  # noqa: E402
from django.test import override_settings  # noqa: E402
from django.utils import timezone  # noqa: E402

from sessionsweep.integrations.django import SessionStore, configured  # noqa: E402
from support.django_deployment import Deployment  # noqa: E402


@pytest.fixture(params=["memory", "redis"])
def deployment(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    settings: dict[str, Any] = {"volumes": f"one={tmp_path / 'one'}", **getattr(request.function, "settings", {})}
    if request.param == "redis":
        settings |= {"url": request.getfixturevalue("redis_url"), "namespace": request.getfixturevalue("namespace")}
    made = Deployment(**settings)
    monkeypatch.setattr(configured, "_current", made.configured)
    yield made
    made.sessions.close()


class Awaited:
    """A session used through its `a…` methods alone, by the names of the sync ones."""

    runner: asyncio.Runner

    def __init__(self, key: str | None = None) -> None:
        self.it = SessionStore(key)

    def __getattr__(self, name: str) -> Any:
        if name in ("session_key", "modified", "accessed", "id", "is_empty", "clear", "encode", "decode", "key_salt"):
            return getattr(self.it, name)
        return lambda *args, **options: self.runner.run(getattr(self.it, f"a{name}")(*args, **options))

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.it, name, value) if name != "it" else super().__setattr__(name, value)

    def __getitem__(self, key: str) -> Any:
        if not self.has_key(key):
            raise KeyError(key)
        return self.get(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        self.pop(key)

    def __contains__(self, key: str) -> bool:
        return bool(self.has_key(key))


@pytest.fixture(params=[SessionStore, Awaited], ids=["sync", "async"])
def make(request: pytest.FixtureRequest, deployment: Deployment) -> Iterator[Any]:
    """Makes a session of a key, used in one of the two ways."""
    with asyncio.Runner() as Awaited.runner:
        yield request.param
        Awaited.runner.run(deployment.configured.async_sessions.close())


@pytest.fixture
def session(make: Any) -> Any:
    return make()


# a dict


def test_a_new_session(session: Any) -> None:
    assert session.modified is False
    assert session.accessed is False
    assert session.session_key is None
    assert session.is_empty()


def test_get_of_an_empty_one(session: Any) -> None:
    assert session.get("cat") is None
    assert session.get("cat", "default") == "default"
    assert session.accessed
    assert not session.modified


def test_store(session: Any) -> None:
    session["cat"] = "dog"
    assert session.modified
    assert session.pop("cat") == "dog"


def test_pop(session: Any) -> None:
    session["some key"] = "exists"
    session.accessed = session.modified = False
    assert session.pop("some key") == "exists"
    assert session.accessed
    assert session.modified
    assert session.get("some key") is None


def test_pop_of_what_is_not_there_modifies_nothing(session: Any) -> None:
    assert session.pop("some key", "does not exist") == "does not exist"
    assert session.accessed
    assert not session.modified
    assert session.pop("some key", default="named") == "named"
    with pytest.raises(KeyError):
        session.pop("some key")
    with pytest.raises(KeyError):
        del session["some key"]
    assert not session.modified


def test_setdefault(session: Any) -> None:
    assert session.setdefault("foo", "bar") == "bar"
    assert session.setdefault("foo", "baz") == "bar"
    assert session.accessed
    assert session.modified


def test_update(session: Any) -> None:
    session.update({"update key": 1})
    assert session.accessed
    assert session.modified
    assert session.get("update key") == 1


def test_has_key_values_keys_items(session: Any) -> None:
    session["some key"] = 1
    session.accessed = session.modified = False
    assert "some key" in session
    assert list(session.values()) == [1]
    assert list(session.keys()) == ["some key"]
    assert list(session.items()) == [("some key", 1)]
    assert session.accessed
    assert not session.modified


def test_clear(session: Any) -> None:
    session["x"] = 1
    session.accessed = session.modified = False
    session.clear()
    assert list(session.items()) == []
    assert session.accessed
    assert session.modified


def test_the_test_cookie(session: Any) -> None:
    assert not session.test_cookie_worked()
    session.set_test_cookie()
    assert session.test_cookie_worked()
    session.delete_test_cookie()
    assert not session.test_cookie_worked()


# the store


def test_save(session: Any, make: Any) -> None:
    session["a"] = {"b": [1, None, "ü"]}
    session.save()
    assert session["a"] == {"b": [1, None, "ü"]}
    assert session.exists(session.session_key)
    again = make(session.session_key)
    assert again.get("a") == {"b": [1, None, "ü"]}
    assert not again.modified


def test_an_explicit_save_of_nothing_makes_a_session(session: Any, make: Any) -> None:
    session.save()
    assert session.exists(session.session_key)
    assert session.modified, "so that the middleware sets the cookie"
    assert dict(make(session.session_key).items()) == {}


def test_delete(session: Any) -> None:
    session.save()
    session.delete(session.session_key)
    assert not session.exists(session.session_key)


def test_delete_without_a_key_is_this_session(session: Any, make: Any) -> None:
    make().delete()
    session.save()
    other = make(session.session_key)
    other.delete()
    assert not session.exists(session.session_key)


def test_deleting_what_is_unknown_is_harmless(session: Any) -> None:
    session.delete("someunknownkey")


def test_flush(session: Any, deployment: Deployment) -> None:
    session["foo"] = "bar"
    session.save()
    before = session.session_key
    session.flush()
    assert not session.exists(before)
    assert session.session_key is None
    assert session.modified
    assert session.accessed
    session["new"] = 1
    session.save()
    assert session.session_key not in (None, before)
    assert deployment.of(session).data == {"new": 1}


def test_cycle(session: Any, make: Any, deployment: Deployment) -> None:
    session["a"], session["b"] = "c", "d"
    session.save()
    before, public = session.session_key, deployment.of(session).id
    data = list(session.items())
    session.cycle_key()
    assert not session.exists(before), "dead at once, before anything is saved"
    assert session.session_key != before
    assert list(session.items()) == data
    assert session.modified
    session.save()
    assert dict(make(session.session_key).items()) == dict(data)
    assert deployment.of(session).id == public, "so what it owns stays"


def test_cycle_before_it_was_loaded(session: Any, make: Any) -> None:
    session["a"], session["b"] = "c", "d"
    session.save()
    again = make(session.session_key)
    again.cycle_key()
    assert dict(again.items()) == {"a": "c", "b": "d"}
    assert again.session_key != session.session_key


def test_cycle_of_none_makes_one_with_its_data(session: Any, make: Any) -> None:
    session["a"] = 1
    session.cycle_key()
    assert make(session.session_key).get("a") == 1


def test_create_saves_what_is_there(session: Any, make: Any) -> None:
    session["last_login"] = 1376587691
    session.create()
    assert session.modified
    assert session.exists(session.session_key)
    session["more"] = 1
    session.save()
    assert dict(SessionStore(session_key=session.session_key).items()) == {"last_login": 1376587691, "more": 1}


def test_create_of_one_that_is_there_makes_another(session: Any, make: Any, deployment: Deployment) -> None:
    session["a"] = 1
    session.save()
    first = session.session_key
    session.create()
    assert session.session_key != first
    assert make(first).get("a") == make(session.session_key).get("a") == 1
    assert deployment.count() == 2


def test_a_session_is_empty_without_a_key_and_data(session: Any, make: Any) -> None:
    assert session.is_empty()
    session["a"] = 1
    assert not session.is_empty()
    session.save()
    session.clear()
    assert not session.is_empty(), "it has its key"
    assert not make(session.session_key).is_empty()
    session.flush()
    assert session.is_empty()


def test_the_key_is_read_only(session: Any) -> None:
    with pytest.raises(AttributeError):
        session.session_key = "x" * 32


def test_save_does_not_load(session: Any, make: Any) -> None:
    session["cat"] = "dog"
    session.save()
    again = make(session.session_key)
    again.save()
    assert make(session.session_key).get("cat") == "dog"


def test_must_create(session: Any, make: Any) -> None:
    session["test"] = 1
    session.save(must_create=True)
    with pytest.raises(CreateError):
        session.save(must_create=True)
    with pytest.raises(CreateError):
        make(session.session_key).save(must_create=True)
    other = make("someunknownkey")
    other.save(must_create=True)
    assert other.session_key != "someunknownkey"


def test_an_invalid_key_is_replaced(make: Any) -> None:
    session = make("1")
    session.save()
    assert session.session_key != "1"
    assert session.get("cat") is None


@pytest.mark.parametrize("key", ["", None, "1", "1234567"])
def test_keys_that_django_finds_too_short(make: Any, key: str | None) -> None:
    assert make(key).session_key is None


@pytest.mark.parametrize(
    "key",
    ["12345678", "abcdefghij" * 60, "a\\b\\c-long", "../../etc/passwd", "ü" * 20, "\0" * 20, "a b\r\nc: d", "." * 64,
     "a" * 20 + ".", "." + "b" * 43, "a" * 20 + "." + "b" * 43 + ".c", "{00}" + "a" * 16 + "." + "b" * 43],
)  # fmt: skip
def test_keys_of_another_form_open_nothing(make: Any, deployment: Deployment, key: str) -> None:
    assert make(key).load() == {}
    assert not make(key).exists(key)
    make(key).delete(key)
    late = make(key)
    late["x"] = 1
    late.save()
    assert late.session_key != key
    assert deployment.count() == 1


def test_an_unknown_key_is_never_taken_over(make: Any, deployment: Deployment) -> None:
    for unknown in ("someunknownkey", "a" * 20 + "." + "b" * 43):
        session = make(unknown)
        session["x"] = 1
        assert session.session_key is None
        session.save()
        assert session.session_key != unknown
        assert not session.exists(unknown)
    assert deployment.count() == 2


def test_loading_an_unknown_key_makes_no_record(make: Any, deployment: Deployment) -> None:
    session = make("a" * 20 + "." + "b" * 43)
    assert session.load() == {}
    assert session.session_key is None
    assert not session.exists(session.session_key)
    assert deployment.count() == 0


def test_saving_never_resurrects_a_session_that_was_logged_out_elsewhere(make: Any, deployment: Deployment) -> None:
    first = make()
    first["test_data"] = "value1"
    first.save(must_create=True)
    make(first.session_key).delete()
    first["test_data"] = "value2"
    with pytest.raises(UpdateError):
        first.save()
    assert first.load() == {}
    assert deployment.count() == 1


def test_a_save_without_changes_does_not_resurrect_either(make: Any) -> None:
    first = make()
    first.save()
    make(first.session_key).delete()
    with pytest.raises(UpdateError):
        first.save()


def test_a_cleared_session_that_was_never_looked_at_does_not_resurrect(make: Any, deployment: Deployment) -> None:
    ended = make()
    ended.save()
    ended.delete()
    late = make(ended.session_key)
    late.clear()
    late["x"] = 1
    with pytest.raises(UpdateError):
        late.save()
    assert deployment.count() == 1


def test_clearing_without_a_look_removes_what_was_there(session: Any, make: Any, deployment: Deployment) -> None:
    session["old"] = 1
    session.save()
    again = make(session.session_key)
    again.clear()
    again["new"] = 2
    again.save()
    assert deployment.of(session).data == {"new": 2}


def test_a_save_that_a_new_key_overtook_is_refused_and_writes_nothing(make: Any, deployment: Deployment) -> None:
    first = make()
    first["a"] = 1
    first.set_expiry(100)
    first.save()
    slow = make(first.session_key)
    assert slow.get("a") == 1
    first.cycle_key()
    deployment.advance(60)
    slow["a"], slow["b"] = 3, 2
    slow.set_expiry(1000)
    with pytest.raises(UpdateError):  # or its answer would set the dead key's cookie over the new one's
        slow.save()
    assert deployment.of(first).data == {"a": 1, "_session_expiry": 100}
    assert left(deployment, first) == 40, "it renews nothing either"
    slow.modified = False
    with pytest.raises(UpdateError):  # one without a change, neither
        slow.save()
    assert left(deployment, first) == 40


def test_a_log_in_that_another_log_in_overtook_is_refused_and_writes_nothing(make: Any, deployment: Deployment) -> None:
    first = make()
    first["cart"] = [1]
    first.save()
    slow = make(first.session_key)
    assert slow.get("cart") == [1]
    first["_auth_user_id"] = "7"
    first.save()
    slow["_auth_user_id"], slow["cart"] = "8", []
    with pytest.raises(UpdateError):
        slow.save()
    assert deployment.of(first).data == {"cart": [1], "_auth_user_id": "7"}
    assert deployment.of(first).user == "7"


def test_a_known_id_with_another_secret_opens_saves_and_ends_nothing(make: Any, deployment: Deployment) -> None:
    victim = make()
    victim["secret"] = "theirs"
    victim.save()
    forged = victim.session_key.partition(".")[0] + "." + "x" * 43
    assert make(forged).get("secret") is None
    assert not victim.exists(forged)
    victim.delete(forged)
    blind = make(forged)
    blind.clear()
    blind["secret"] = "mine"
    with pytest.raises(UpdateError):
        blind.save()
    make(forged).flush()
    assert deployment.of(victim).data == {"secret": "theirs"}


def test_a_change_inside_a_value_is_noticed_by_nobody_but_sent_with_the_next_save(session: Any, make: Any) -> None:
    session["foo"] = {}
    session.save()
    again = make(session.session_key)
    again.get("foo")["bar"] = "baz"
    assert not again.modified
    again.save()
    assert make(session.session_key).get("foo") == {"bar": "baz"}


def test_only_changed_top_level_keys_are_sent(session: Any, make: Any) -> None:
    session["a"], session["b"], session["c"] = 1, {"x": [1]}, "ü"
    session.save()
    one, two = make(session.session_key), make(session.session_key)
    one["a"] = "one"
    assert two.get("b") == {"x": [1]}
    two.pop("c")
    two.get("b")["x"].append(2)
    one.save()
    two.save()
    assert dict(make(session.session_key).items()) == {"a": "one", "b": {"x": [1, 2]}}


def test_what_another_program_wrote_in_other_bytes_is_no_change(
    session: Any, make: Any, deployment: Deployment
) -> None:
    session["name"] = "x"
    session.save()
    outside = deployment.of(session)
    outside.data["name"] = "ü"  # not escaped, as Django would
    outside.save()
    slow = make(session.session_key)
    slow["other"] = 1
    outside.data["name"] = "changed meanwhile"
    outside.save()
    slow.save()
    assert make(session.session_key).get("name") == "changed meanwhile"


def test_keys_that_are_no_text_become_what_json_makes_of_them(session: Any, make: Any) -> None:
    session[1], session[None], session[True] = "one", "none", "true"  # True is 1
    session.save()
    assert dict(make(session.session_key).items()) == json.loads(json.dumps({1: "true", None: "none"}))


def test_half_a_character_is_json_too(session: Any, make: Any) -> None:
    session["a"] = "\ud800"
    session.save()
    assert make(session.session_key).get("a") == "\ud800"
    session["b"] = "\udfff"
    session.save()
    assert make(session.session_key).get("b") == "\udfff"


def test_what_is_no_json_names_its_key(session: Any) -> None:
    session["when"] = datetime.now(UTC)
    with pytest.raises(TypeError, match="'when' must be JSON"):
        session.save()
    session["when"] = b"\xd9"
    with pytest.raises(TypeError, match="'when' must be JSON"):
        session.save()


def test_data_has_a_bound(session: Any) -> None:
    session["large"] = "x" * 1_000_001
    with pytest.raises(ValueError, match=r"request\.session\.resources"):
        session.save()


def test_data_that_is_damaged_is_said_and_empty(
    session: Any, make: Any, deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    from sessionsweep.store import operations as op

    session["a"] = 1
    session.save()
    deployment.store.execute(op.SaveData(deployment.of(session).id, {"a": b"{"}))
    with caplog.at_level(logging.WARNING, "django.security.SuspiciousSession"):
        assert make(session.session_key).load() == {}
    assert "corrupted" in caplog.text


# serializers


class Upper:
    """JSON, but not Django's: as a project's own serializer may be."""

    def dumps(self, obj: Any) -> bytes:
        return json.dumps(obj, default=str).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data)


class Binary:
    def dumps(self, obj: Any) -> bytes:
        return b"\x80" + json.dumps(obj).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data[1:])


def test_a_serializer_of_the_projects_own_writes_the_values(make: Any) -> None:
    with override_settings(SESSION_SERIALIZER=f"{__name__}.Upper"):
        session = make()
        session["when"] = datetime(2026, 1, 2, tzinfo=UTC)
        session.save()
        assert make(session.session_key).get("when") == "2026-01-02 00:00:00+00:00"


def test_a_serializer_that_writes_no_json_is_refused(make: Any) -> None:
    with override_settings(SESSION_SERIALIZER=f"{__name__}.Binary"):
        session = make()
        session["a"] = 1
        with pytest.raises(TypeError, match="must be JSON"):
            session.save()


def test_encode_and_decode_are_djangos(session: Any, caplog: pytest.LogCaptureFixture) -> None:
    data = {"a test key": "a test value"}
    assert session.decode(session.encode(data)) == data
    bad = session.encode(data)[:-3] + "abc"
    with caplog.at_level(logging.WARNING, "django.security.SuspiciousSession"):
        assert session.decode(bad) == {}
    assert "corrupted" in caplog.text
    assert session.decode(signing.dumps([], key="other")) == {}
    assert session.decode("bad:encoded:value") == {}
    signed = signing.TimestampSigner(salt=session.key_salt).sign("no JSON")
    assert session.decode(signed) == {}


# how long


def left(deployment: Deployment, session: Any) -> float:
    return round(deployment.of(session).expires_in)


def test_default_expiry(session: Any, deployment: Deployment) -> None:
    assert session.get_expiry_age() == 1_209_600
    session.save()
    assert left(deployment, session) == 1_209_600
    session.set_expiry(0)
    assert session.get_expiry_age() == 1_209_600
    session.save()
    assert left(deployment, session) == 1_209_600, "the browser decides, within the cookie's age"


def test_session_cookie_age(make: Any, deployment: Deployment) -> None:
    with override_settings(SESSION_COOKIE_AGE=120):
        session = make()
        session["a"] = 1
        session.save()
        assert left(deployment, session) == 120
    with override_settings(SESSION_COOKIE_AGE=300):
        session.save()
        assert left(deployment, session) == 300


def test_an_engine_of_the_projects_own_may_say_another_age(deployment: Deployment) -> None:
    class Short(SessionStore):
        def get_session_cookie_age(self) -> int:
            return 60

    session = Short()
    session["a"] = 1
    session.save()
    assert session.get_expiry_age() == left(deployment, session) == 60


def test_djangos_age_wins_over_an_idle_timeout_of_ours(session: Any, deployment: Deployment) -> None:
    session.save()
    assert left(deployment, session) == 1_209_600
    session.set_expiry(100)
    session.save()
    assert left(deployment, session) == 100


test_djangos_age_wins_over_an_idle_timeout_of_ours.settings = {"idle_timeout": 5}  # type: ignore[attr-defined]


def test_expiry_in_seconds(session: Any, deployment: Deployment) -> None:
    modification = timezone.now()
    session.set_expiry(10)
    assert session.get_expiry_date(modification=modification) == modification + timedelta(seconds=10)
    assert session.get_expiry_age(modification=modification) == 10
    session.save()
    assert left(deployment, session) == 10


def test_expiry_as_timedelta(session: Any, deployment: Deployment) -> None:
    modification = timezone.now()
    original, timezone.now = timezone.now, lambda: modification
    try:
        session.set_expiry(timedelta(seconds=10))
    finally:
        timezone.now = original
    assert session.get_expiry_date(modification=modification) == modification + timedelta(seconds=10)
    assert session.get_expiry_age(modification=modification) == 10
    session.save()
    assert 5 <= left(deployment, session) <= 10


def test_expiry_at_a_date(session: Any, deployment: Deployment, make: Any) -> None:
    date = timezone.now() + timedelta(seconds=3600)
    session.set_expiry(date)
    assert session.get_expiry_date() == date
    session.save()
    assert 3590 <= left(deployment, session) <= 3600
    assert make(session.session_key).get_expiry_date() == date
    deployment.of(session).extend()
    with deployment.of(session).keep_alive("10h"):
        assert 3590 <= left(deployment, session) <= 3600, "a date is fixed: nothing defers it"


def test_a_dates_end_stays_when_the_session_is_saved_later(session: Any, deployment: Deployment) -> None:
    session.set_expiry(timezone.now() + timedelta(seconds=3600))
    session.save()
    deployment.advance(600)
    session["a"] = 1
    session.save()
    assert 2990 <= left(deployment, session) <= 3000
    session.set_expiry(None)
    session.save()
    assert left(deployment, session) == 1_209_600, "and no end remains"


def test_expiry_reset(session: Any, deployment: Deployment) -> None:
    session.set_expiry(None)
    session.set_expiry(0)
    session.set_expiry(None)
    assert session.get_expiry_age() == 1_209_600


def test_get_expire_at_browser_close(session: Any) -> None:
    with override_settings(SESSION_EXPIRE_AT_BROWSER_CLOSE=False):
        assert not session.get_expire_at_browser_close()
        session.set_expiry(10)
        assert not session.get_expire_at_browser_close()
        session.set_expiry(0)
        assert session.get_expire_at_browser_close()
        session.set_expiry(None)
        assert not session.get_expire_at_browser_close()
    with override_settings(SESSION_EXPIRE_AT_BROWSER_CLOSE=True):
        assert session.get_expire_at_browser_close()
        session.set_expiry(10)
        assert not session.get_expire_at_browser_close()
        session.set_expiry(None)
        assert session.get_expire_at_browser_close()


@pytest.mark.parametrize("past", [timedelta(seconds=-10), -10])
def test_an_expiry_in_the_past_ends_it_at_once(session: Any, make: Any, past: Any) -> None:
    session["foo"] = "bar"
    session.set_expiry(past)
    session.save()
    assert "foo" not in make(session.session_key)


def test_an_expiry_in_the_past_ends_a_living_one_at_once(session: Any, make: Any) -> None:
    session["foo"] = "bar"
    session.save()
    session.set_expiry(timedelta(seconds=-10))
    session.save()
    assert "foo" not in make(session.session_key)


def test_a_century_is_cut_to_what_a_record_holds(session: Any, deployment: Deployment) -> None:
    session.set_expiry(100 * 365 * 86400)
    session.save()
    assert left(deployment, session) == round((2**40 - 1) / 1000)


def test_reading_renews_nothing_and_saving_does(session: Any, make: Any, deployment: Deployment) -> None:
    session.set_expiry(100)
    session.save()
    deployment.advance(60)
    assert dict(make(session.session_key).items()) == {"_session_expiry": 100}
    assert session.exists(session.session_key)
    assert left(deployment, session) == 40
    late = make(session.session_key)
    late.save()
    assert left(deployment, session) == 100
    deployment.advance(101)
    assert make(session.session_key).load() == {}


def test_max_duration_only_shortens(session: Any, deployment: Deployment) -> None:
    session.set_expiry(100)
    session.save()
    assert left(deployment, session) == 50
    session.set_expiry(timezone.now() + timedelta(seconds=3600))
    session.save()
    assert left(deployment, session) == 50


test_max_duration_only_shortens.settings = {"max_duration": 50}  # type: ignore[attr-defined]


def test_clear_expired(make: Any, deployment: Deployment) -> None:
    short, long = make(), make()
    short.set_expiry(10)
    short.save()
    long.set_expiry(1000)
    long.save()
    deployment.advance(30)
    assert deployment.sessions.stats().active_sessions == 2
    make().clear_expired()
    assert deployment.sessions.stats().active_sessions == 1
    assert long.exists(long.session_key)


# who


def test_who_django_logs_in_is_the_sessions_user(session: Any, make: Any, deployment: Deployment) -> None:
    session.save()
    before = session.session_key
    session["_auth_user_id"] = "7"
    session.save()
    assert deployment.of(session).user == "7"
    assert not session.exists(before), "a log-in takes a new secret"
    key = session.session_key
    session["more"] = 1
    session.save()
    assert session.session_key == key, "once"
    assert [s.id for s in deployment.sessions.list(user="7")[0]] == [deployment.of(session).id]
    assert deployment.sessions.end_user("7") == 1
    assert make(key).load() == {}


def test_a_log_in_resurrects_nothing(session: Any, make: Any, deployment: Deployment) -> None:
    session["a"] = 1
    session.save()
    make(session.session_key).delete()
    session["_auth_user_id"] = "7"
    with pytest.raises(UpdateError):
        session.save()
    other = make()
    other.save()
    make(other.session_key).delete()
    with pytest.raises(SessionInterrupted):
        other.cycle_key()
    assert deployment.sessions.stats().active_sessions == 0


def test_ones_other_sessions(make: Any, deployment: Deployment) -> None:
    here, phone, tablet, theirs = make(), make(), make(), make()
    for one, user in ((phone, "7"), (tablet, "7"), (theirs, "8")):
        one["_auth_user_id"] = user
        one.save()
        deployment.advance(1)
    assert here.others() == []
    assert here.log_out_others() == 0
    assert not here.end_other(phone.id), "nobody is logged in here"
    here["_auth_user_id"] = "7"
    assert [one.id for one in here.others()] == [tablet.id, phone.id], "before it is saved, too"
    here.save()
    assert [one.id for one in here.others()] == [tablet.id, phone.id]
    assert not here.end_other(here.id)
    assert not here.end_other(theirs.id)
    assert not here.end_other("a" * 20)
    assert not here.end_other("no id")
    assert here.end_other(phone.id)
    assert not here.end_other(phone.id), "it has ended"
    assert make(phone.session_key).load() == {}
    assert here.log_out_others() == 1
    assert here.others() == []
    assert make(here.session_key).get("_auth_user_id") == "7"
    assert theirs.exists(theirs.session_key)
    assert deployment.sessions.stats().ended_by_reason == {"user": 2}


def test_one_that_begins_with_a_log_in_is_that_users(session: Any, deployment: Deployment) -> None:
    session["_auth_user_id"] = 7
    session.save()
    assert deployment.of(session).user == "7"


# no secret anywhere


def test_no_key_is_ever_logged(session: Any, make: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        session["a"] = 1
        session.save()
        key = session.session_key
        session.cycle_key()
        make(key).load()
        later = session.session_key
        session.delete()
        with pytest.raises(UpdateError) as refused:
            session.save()
    for secret in (key, later):
        assert secret.partition(".")[2] not in caplog.text + repr(session) + repr(refused.value)
