"""Settings: one test for each rule; what is wrong is named with its variable, its value and the fix."""

from __future__ import annotations

import ast
import os
import socket
import subprocess
import sys
import traceback
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from sessionsweep.errors import ConfigurationError
from sessionsweep.model import ids
from sessionsweep.settings import Settings, VolumeSpec, redact_url

ROOT = Path(__file__).parents[2]
KEY = "k" * 32
SECRET = "correct-horse-battery-staple-secret"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.upper().startswith("SESSIONSWEEP_")]:
        monkeypatch.delenv(variable)


def settings(**values: Any) -> Settings:
    return Settings(**{"redis_url": "redis://localhost/0", "secret_key": KEY, **values})


def refused(**values: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        settings(**values)
    return str(caught.value)


# --- the defaults -----------------------------------------------------------------------------------------


def test_the_documented_defaults() -> None:
    made = settings()
    expected: dict[str, Any] = {
        "namespace": "ss", "idle_timeout": 900.0, "max_duration": 3600.0, "grace_period": 30.0,
        "cleanup_interval": 60.0, "orphan_interval": 3600.0, "orphan_min_age": 3600.0, "hold": 900.0,
        "max_resources_per_session": 100, "max_bytes_per_session": 100_000_000, "max_streams_per_session": 20,
        "max_sessions": 0, "max_sessions_per_user": 0, "on_user_limit": "refuse", "max_resources_per_user": 0,
        "max_bytes_per_user": 0, "client_binding": "log", "trusted_proxies": None, "cookie_secure": "auto",
        "volumes": (), "node": socket.gethostname(), "partitions": 1, "sweeper": "workers", "mode": "enforce",
        "admin_token": None, "lease": 60.0, "reclaim_tries": 8, "intent_timeout": 900.0,
        "tombstone_retention": 86400.0, "node_timeout": 600.0, "socket_timeout": 5.0,
    }  # fmt: skip
    assert {name: getattr(made, name) for name in expected} == expected
    assert Settings(secret_key=KEY).redis_url == "redis://localhost:6379/0"


def test_a_stranger_who_sets_only_the_redis_url_is_told_to_make_a_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SESSIONSWEEP_REDIS_URL", "redis://:hunter2@db/0")
    with pytest.raises(ConfigurationError, match="SESSIONSWEEP_SECRET_KEY is not set") as caught:
        Settings()
    assert "python3 -c" in str(caught.value)
    assert "hunter2" not in str(caught.value)


# --- where values come from -------------------------------------------------------------------------------


def test_arguments_win_over_the_environment_and_that_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONSWEEP_SECRET_KEY", KEY)
    monkeypatch.setenv("SESSIONSWEEP_IDLE_TIMEOUT", "1h")
    monkeypatch.setenv("SESSIONSWEEP_GRACE_PERIOD", "5")
    made = Settings(idle_timeout="15m")
    assert (made.idle_timeout, made.grace_period, made.max_duration) == (900.0, 5.0, 3600.0)
    sources = made.sources()
    assert sources["idle_timeout"] == "argument"
    assert sources["grace_period"] == "environment"
    assert sources["max_duration"] == "default"
    assert set(sources) == set(Settings.model_fields)


def test_from_env_reads_every_kind_of_value(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "REDIS_URL": "rediss://db:6380/2", "BROKER_URL": "amqp://rabbit//", "NAMESPACE": "shop",
        "SECRET_KEY": KEY,
        "MAX_BYTES_PER_SESSION": "1.5GiB", "PARTITIONS": "256", "VOLUMES": "a=/srv/a,b=/srv/b?ephemeral",
        "TRUSTED_PROXIES": "10.0.0.0/8, ::1", "MODE": "observe", "NODE": "web-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"SESSIONSWEEP_{name}", text)
    made = Settings.from_env()
    assert made.broker_url == "amqp://rabbit//"
    assert made.max_bytes_per_session == 3 * 2**29
    assert made.partitions == 256
    assert made.volumes == (VolumeSpec("a", "/srv/a"), VolumeSpec("b", "/srv/b", ephemeral=True))
    assert made.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1"))
    assert (made.mode, made.node, made.namespace) == ("observe", "web-1", "shop")


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONSWEEP_IDLE_TIMEOUT", "")
    made = settings()
    assert made.idle_timeout == 900.0
    assert made.sources()["idle_timeout"] == "default"


def test_an_unknown_variable_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONSWEEP_IDLE_TIMOUT", SECRET)
    message = refused()
    assert "SESSIONSWEEP_IDLE_TIMOUT is not a setting" in message
    assert "did you mean SESSIONSWEEP_IDLE_TIMEOUT?" in message
    assert SECRET not in message


def test_a_variable_in_another_case_is_not_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SessionSweep_Idle_Timeout", "5")
    assert "did you mean SESSIONSWEEP_IDLE_TIMEOUT?" in refused()


def test_other_programs_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere/0")
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere/0")
    assert settings().broker_url == "redis://localhost/0"


def test_an_unknown_argument_names_the_nearest() -> None:
    assert "idle_timout is not a setting; did you mean idle_timeout?" in refused(idle_timout=5)
    assert "config show" in refused(zzzzzz=5)


def test_every_fault_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONSWEEP_GRACE_PERIOD", "soon")
    lines = refused(idle_timeout="15x", partitions=0).splitlines()
    assert len(lines) == 3
    assert any(line.startswith("SESSIONSWEEP_GRACE_PERIOD: 'soon'") for line in lines)
    assert any(line.startswith("SESSIONSWEEP_IDLE_TIMEOUT (here the argument idle_timeout): '15x'") for line in lines)
    assert any("SESSIONSWEEP_PARTITIONS" in line and "at least 1" in line for line in lines)


def test_settings_are_frozen() -> None:
    made = settings()
    with pytest.raises(ValueError, match="frozen"):
        made.idle_timeout = 1.0  # type: ignore[misc]


# --- durations, sizes, counts, choices --------------------------------------------------------------------


def test_a_timedelta_is_a_duration() -> None:
    assert settings(max_duration=timedelta(days=31)).max_duration == 31 * 86400.0


@pytest.mark.parametrize(
    "name",
    [
        "idle_timeout",
        "cleanup_interval",
        "orphan_interval",
        "lease",
        "intent_timeout",
        "node_timeout",
        "socket_timeout",
    ],
)
def test_durations_that_must_not_be_zero(name: str) -> None:
    message = refused(**{name: 0})
    assert f"SESSIONSWEEP_{name.upper()}" in message
    assert "0 is too small" in message
    assert getattr(settings(**{name: "500ms"}), name) == 0.5


@pytest.mark.parametrize("name", ["max_duration", "grace_period", "orphan_min_age", "hold", "tombstone_retention"])
def test_durations_that_may_be_zero(name: str) -> None:
    assert getattr(settings(**{name: "0"}), name) == 0.0


@pytest.mark.parametrize(
    "name",
    [
        "max_sessions",
        "max_sessions_per_user",
        "max_resources_per_user",
        "max_bytes_per_user",
        "max_bytes_per_session",
    ],
)
def test_limits_whose_zero_means_none(name: str) -> None:
    assert getattr(settings(**{name: "0"}), name) == 0
    assert f"SESSIONSWEEP_{name.upper()}" in refused(**{name: "-1"})


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("partitions", 1, 256),
        ("max_resources_per_session", 1, 1000),
        ("max_streams_per_session", 1, 1000),
        ("reclaim_tries", 1, 1000),
    ],
)
def test_counts_within_their_bounds(name: str, low: int, high: int) -> None:
    assert getattr(settings(**{name: low}), name) == low
    assert getattr(settings(**{name: str(high)}), name) == high
    assert f"at least {low}" in refused(**{name: low - 1})
    assert f"{high + 1} is too large; give at most {high}" in refused(**{name: high + 1})


@pytest.mark.parametrize("value", ["many", "1.5", 1.5, True, None, "1e3"])
def test_what_is_no_count_is_named(value: object) -> None:
    assert f"SESSIONSWEEP_MAX_SESSIONS (here the argument max_sessions): {value!r}" in refused(max_sessions=value)


def test_what_is_no_size_is_named() -> None:
    assert "SESSIONSWEEP_MAX_BYTES_PER_USER (here the argument max_bytes_per_user): '1G'" in refused(
        max_bytes_per_user="1G"
    )


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("on_user_limit", ("refuse", "end-oldest")),
        ("client_binding", ("off", "log")),
        ("cookie_secure", ("auto", "always", "never")),
        ("sweeper", ("workers", "in-process")),
        ("mode", ("enforce", "observe")),
    ],
)
def test_choices(name: str, choices: tuple[str, ...]) -> None:
    for choice in choices:
        assert getattr(settings(**{name: choice}), name) == choice
    message = refused(**{name: "maybe"})
    assert f"SESSIONSWEEP_{name.upper()}" in message
    assert "'maybe' is not one of" in message
    assert all(repr(choice) in message for choice in choices)


# --- the store and the broker -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost", "redis://localhost:6379/", "redis://ana:p%40ss@db:6380/15?socket_timeout=3",
        "rediss://db/0?ssl_ca_certs=/etc/ca.pem", "redis://[::1]:6379/0", "unix:///run/redis.sock?db=1",
        "unix://:pw@/run/redis.sock",
    ],
)  # fmt: skip
def test_store_urls(url: str) -> None:
    assert settings(redis_url=url).redis_url == url


@pytest.mark.parametrize(
    ("url", "fix"),
    [
        ("localhost:6379", "unknown scheme"),
        ("http://localhost", "unknown scheme"),
        ("redis://", "lacks a host"),
        ("redis:///0", "lacks a host"),
        ("redis://db/zero", "not a database number"),
        ("redis://db:port/0", "percent-encode"),
        ("redis://db:99999/0", "percent-encode"),
        ("redis://db/0#x", "%23"),
        ("unix://redis.sock", "absolute path"),
        ("memory://db", "nothing may follow"),
        ("redis+sentinel://a,b/main", "not yet supported"),
        ("redis+cluster://a", "not yet supported"),
        ("rediss://db/0?ssl_cert_reqs=none", "ssl_ca_certs"),
        ("rediss://db/0?x=1&ssl_cert_reqs=CERT_NONE", "ssl_ca_certs"),
        (7, "URL is text"),
    ],
)
def test_impossible_store_urls(url: object, fix: str) -> None:
    message = refused(redis_url=url)
    assert message.startswith("SESSIONSWEEP_REDIS_URL")
    assert fix in message
    assert "\n" not in message  # what follows from the fault is not reported beside it


@pytest.mark.parametrize(
    "url",
    [
        f"http://:{SECRET}@db", f"redis://ana:{SECRET}@db/zero", f"redis://:{SECRET}/x@db:1/0",
        f"redis://:{SECRET}#@db:y/0", f"redis://db:x/0?password={SECRET}", f"redis://{SECRET}@/0",
        f"{SECRET}@db",
    ],
)  # fmt: skip
def test_no_message_about_a_url_shows_its_password(url: str) -> None:
    for name in ("redis_url", "broker_url"):
        with pytest.raises(ConfigurationError) as caught:
            settings(**{name: url if name == "redis_url" else "X" + url})
        assert SECRET not in "".join(traceback.format_exception(caught.value))
        assert caught.value.__context__ is None  # a reporter that follows the chain finds no raw value either


def test_the_broker_is_the_store_by_default() -> None:
    assert settings(redis_url="rediss://db/3").broker_url == "rediss://db/3"
    assert settings(redis_url="unix:///run/r.sock?db=3").broker_url == "redis+socket:///run/r.sock?virtual_host=3"
    assert settings(broker_url="amqp://rabbit//").require_broker_url() == "amqp://rabbit//"


def test_memory_has_no_broker_until_one_is_named() -> None:
    made = Settings(redis_url="memory://")
    assert made.broker_url is None
    with pytest.raises(ConfigurationError, match="SESSIONSWEEP_BROKER_URL is not set") as caught:
        made.require_broker_url()
    assert "redis://localhost:6379/1" in str(caught.value)
    assert Settings(redis_url="memory://", broker_url="redis://db/1").require_broker_url() == "redis://db/1"


@pytest.mark.parametrize("url", ["rabbit", "://x", 5, "rediss://db/0?ssl_cert_reqs=none"])
def test_impossible_broker_urls(url: object) -> None:
    assert refused(broker_url=url).startswith("SESSIONSWEEP_BROKER_URL")


def test_memory_sweeps_in_process_and_workers_cannot_reach_it() -> None:
    made = Settings(redis_url="memory://")
    assert made.sweeper == "in-process"
    assert made.in_memory
    assert not settings().in_memory
    with pytest.raises(ConfigurationError, match="SESSIONSWEEP_SWEEPER='workers' can't reach"):
        Settings(redis_url="memory://", sweeper="workers")


# --- secrets ----------------------------------------------------------------------------------------------


def test_the_first_key_signs_and_all_are_kept_in_order() -> None:
    new, old = "n" * 40, "o" * 40
    assert settings(secret_key=f"{new}, {old},").signing_keys == (new.encode(), old.encode())
    assert settings(secret_key=[new.encode(), old]).signing_keys == (new.encode(), old.encode())
    assert settings(secret_key=new.encode()).signing_keys == (new.encode(),)


def test_memory_makes_a_random_key_for_each_process() -> None:
    one, two = Settings(redis_url="memory://"), Settings(redis_url="memory://")
    assert len(one.signing_keys[0]) >= 32
    assert one.signing_keys == two.signing_keys, "what one of a process has signed, another opens"
    code = "from sessionsweep import Settings; print(Settings(redis_url='memory://').signing_keys)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    assert len(ast.literal_eval(other)[0]) >= 32
    assert ast.literal_eval(other) != one.signing_keys


@pytest.mark.parametrize("key", ["s3cret", f"{KEY},s3cret", b"s3cret", ["s3cret"], f"{KEY},{KEY}", 5, [5]])
def test_a_bad_key_is_refused_unseen_with_the_command_that_makes_one(key: object) -> None:
    message = refused(secret_key=key)
    assert message.startswith("SESSIONSWEEP_SECRET_KEY")
    assert "python3 -c" in message or "twice" in message
    assert "s3cret" not in message
    assert KEY not in message


def test_the_printed_command_makes_a_good_key() -> None:
    command = refused(secret_key="short").partition("make one: ")[2]
    made = subprocess.run(command, shell=True, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    assert settings(secret_key=made).signing_keys == (made.encode(),)


@pytest.mark.parametrize("as_argument", [True, False])
def test_secrets_come_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_argument: bool) -> None:
    keys, token = tmp_path / "keys", tmp_path / "token"
    keys.write_text(f"{'a' * 32}\n{'b' * 32}\n")
    token.write_text("let-me-in\n")
    arguments: dict[str, Any] = {}
    for name, path in (("secret_key_file", keys), ("admin_token_file", token)):
        if as_argument:
            arguments[name] = str(path)
        else:
            monkeypatch.setenv(f"SESSIONSWEEP_{name.upper()}", str(path))
    made = Settings(redis_url="redis://db", **arguments)
    assert made.signing_keys == (b"a" * 32, b"b" * 32)
    assert made.admin_token is not None
    assert made.admin_token.get_secret_value() == "let-me-in"
    assert made.sources()["secret_key"] == "file"
    assert made.sources()["admin_token"] == "file"
    assert made.sources()["secret_key_file"] == ("argument" if as_argument else "environment")


def test_an_argument_replaces_the_environments_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONSWEEP_SECRET_KEY_FILE", "/nowhere/keys")
    made = settings(secret_key=KEY)
    assert made.sources()["secret_key"] == "argument"
    assert made.sources()["secret_key_file"] == "default"


def test_a_secret_and_its_file_exclude_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONSWEEP_ADMIN_TOKEN", SECRET)
    monkeypatch.setenv("SESSIONSWEEP_ADMIN_TOKEN_FILE", str(tmp_path / "token"))
    message = refused()
    assert "SESSIONSWEEP_ADMIN_TOKEN and SESSIONSWEEP_ADMIN_TOKEN_FILE are both set" in message
    assert SECRET not in message


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe" * 40, b"x" * 70_000])
def test_a_bad_secret_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="SESSIONSWEEP_SECRET_KEY_FILE") as caught:
        Settings(secret_key_file=path)
    assert str(path) in str(caught.value)


def test_a_folder_is_no_secret_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Is a directory"):
        Settings(secret_key_file=str(tmp_path))


def test_an_empty_admin_token_is_refused() -> None:
    assert "SESSIONSWEEP_ADMIN_TOKEN" in refused(admin_token=" ")


def test_no_view_shows_a_secret() -> None:
    url = f"redis://ana:{SECRET}@db:6379/0"
    made = settings(redis_url=url, secret_key=SECRET, admin_token=SECRET)
    assert made.redis_url == url
    views = [repr(made), str(made), f"{made}", repr(made.describe()), repr(made.sources())]
    assert not [view for view in views if SECRET in view]
    rows = {row.name: row for row in made.describe()}
    assert rows["redis_url"].value == rows["broker_url"].value == "redis://ana:***@db:6379/0"
    assert rows["secret_key"].value == rows["admin_token"].value == "***"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://db/0", "redis://db/0"),
        ("redis://:pw@db/0", "redis://:***@db/0"),
        ("redis://ana:p@w@db/0", "redis://ana:***@db/0"),
        ("redis://pw@db/0", "redis://***@db/0"),
        ("unix:///s?db=1&password=pw&Username=x&y=2", "unix:///s?db=1&password=***&Username=***&y=2"),
        ("pw@db", "***"),
        ("memory://", "memory://"),
    ],
)
def test_redacted_urls(url: str, shown: str) -> None:
    assert redact_url(url) == shown


# --- the node, its volumes, its proxies -------------------------------------------------------------------


@pytest.mark.parametrize("value", ["", "web 1", "-web", "a/b", "..", "x" * 64, "wéb", "web\n", 7])
def test_impossible_node_names(value: object) -> None:
    message = refused(node=value)
    assert message.startswith("SESSIONSWEEP_NODE")
    assert repr(value) in message


def test_a_host_name_that_cannot_name_a_node_asks_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "my host")
    assert refused().startswith("SESSIONSWEEP_NODE: 'my host' can't name a node")
    assert ids.NAME.match(settings(node="web-1.example").node)


@pytest.mark.parametrize("value", ["", "a:b", "x" * 33, "a b", "{a}", "naïve", "a\n", 5])
def test_impossible_namespaces(value: object) -> None:
    assert f"SESSIONSWEEP_NAMESPACE (here the argument namespace): {value!r}" in refused(namespace=value)


def test_possible_namespaces() -> None:
    for value in ("ss", "A-b_9", "x" * 32):
        assert settings(namespace=value).namespace == value


def test_volumes_in_every_spelling() -> None:
    expected = (VolumeSpec("a", "/srv/a"), VolumeSpec("b", "/srv/b"))
    assert settings(volumes="a=/srv/a, b=/srv/b/,").volumes == expected
    assert settings(volumes={"a": "/srv//a", "b": Path("/srv/b")}).volumes == expected
    assert settings(volumes=list(expected)).volumes == expected
    assert settings(volumes="t=/tmp/t?ephemeral").volumes == (VolumeSpec("t", "/tmp/t", ephemeral=True),)
    assert str(VolumeSpec("t", "/tmp/t", ephemeral=True)) == "t=/tmp/t?ephemeral"


@pytest.mark.parametrize(
    ("value", "fix"),
    [
        ("/srv/a", "name=/path"),
        ("a=", "name=/path"),
        ("a=/srv/a?fast", "unknown option 'fast'"),
        ("a/b=/srv/a", "can't name a volume"),
        ("=/srv/a", "can't name a volume"),
        ("a=srv/a", "not absolute"),
        ("a=/srv/../etc", "'..'"),
        ("a=/", "whole file system"),
        ("a=//", "whole file system"),
        ("a=/x,a=/y", "stands twice"),
        ("a=/x,b=/x", "lie in one another"),
        ("a=/x,b=/x/", "lie in one another"),
        ("a=/x,b=/x/y", "lie in one another"),
        ("a=/x/y,b=/x", "lie in one another"),
        ({"a": "/x\n"}, "control characters"),
        ({"a": "/x,y"}, "','"),
        (["a=/x"], "not a VolumeSpec"),
        (5, "not a list of volumes"),
    ],
)
def test_impossible_volumes(value: object, fix: str) -> None:
    message = refused(volumes=value)
    assert message.startswith("SESSIONSWEEP_VOLUMES")
    assert fix in message


def test_volumes_whose_names_only_begin_alike_are_apart() -> None:
    assert len(settings(volumes="a=/srv/x,b=/srv/xy").volumes) == 2


def test_proxies() -> None:
    assert settings(trusted_proxies="none").trusted_proxies == ()
    assert settings(trusted_proxies="10.0.0.7,fd00::/8").trusted_proxies == (
        ip_network("10.0.0.7/32"),
        ip_network("fd00::/8"),
    )
    assert settings(trusted_proxies=[ip_network("10.0.0.0/8")]).trusted_proxies == (ip_network("10.0.0.0/8"),)


@pytest.mark.parametrize(
    ("value", "fix"),
    [("proxy.local", "addresses"), ("10.0.0.7/8", "did you mean 10.0.0.0/8?"), (5, "list of proxies")],
)
def test_impossible_proxies(value: object, fix: str) -> None:
    message = refused(trusted_proxies=value)
    assert message.startswith("SESSIONSWEEP_TRUSTED_PROXIES")
    assert fix in message


@pytest.mark.parametrize("binding", ["subnet", "strict"])
def test_binding_to_an_address_needs_to_know_the_proxies(binding: str) -> None:
    message = refused(client_binding=binding)
    assert f"SESSIONSWEEP_CLIENT_BINDING='{binding}' needs SESSIONSWEEP_TRUSTED_PROXIES" in message
    assert settings(client_binding=binding, trusted_proxies="none").client_binding == binding
    assert settings(client_binding=binding, trusted_proxies="10.0.0.1").client_binding == binding


# --- what depends on another ------------------------------------------------------------------------------


def test_the_hold_is_the_idle_timeout_unless_said() -> None:
    assert settings(idle_timeout="1h").hold == 3600.0
    assert settings(idle_timeout="1h", hold="5m").hold == 300.0


def test_frameworks_win_over_defaults_and_explicit_settings_over_frameworks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SESSIONSWEEP_IDLE_TIMEOUT", "7m")
    made = settings(grace_period=1)
    assert made.is_explicit("idle_timeout")
    assert not made.is_explicit("max_duration")
    merged = made.with_framework_defaults(
        idle_timeout=timedelta(days=1), max_duration=timedelta(days=31), grace_period=9
    )
    assert (merged.idle_timeout, merged.max_duration, merged.grace_period) == (420.0, 31 * 86400.0, 1.0)
    assert merged.sources()["max_duration"] == "framework"
    assert merged.sources()["idle_timeout"] == "environment"
    assert merged.sources()["grace_period"] == "argument"
    assert made.max_duration == 3600.0


def test_a_frameworks_idle_timeout_carries_the_hold_along() -> None:
    assert settings().with_framework_defaults(idle_timeout="2h").hold == 7200.0


def test_a_memory_stores_key_stays_when_a_framework_adds_its_defaults() -> None:
    made = Settings(redis_url="memory://")
    assert made.with_framework_defaults(max_duration=60).signing_keys == made.signing_keys


def test_a_frameworks_mistake_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="did you mean max_duration"):
        settings().with_framework_defaults(max_durations=5)


# --- how they are shown -----------------------------------------------------------------------------------


def test_the_description_has_every_setting_with_its_meaning() -> None:
    rows = settings(idle_timeout="20m", max_bytes_per_user="5MB", volumes="a=/x,b=/y?ephemeral").describe()
    assert [row.name for row in rows] == list(Settings.model_fields)
    assert all(len(row.meaning) > 15 and row.variable == f"SESSIONSWEEP_{row.name.upper()}" for row in rows)
    values = {row.name: row.value for row in rows}
    assert values["idle_timeout"] == "1200 (20m)"
    assert values["max_bytes_per_user"] == "5000000 (5 MB)"
    assert values["volumes"] == "a=/x, b=/y?ephemeral"
    assert {row.name: row.source for row in rows}["idle_timeout"] == "argument"


def test_the_configuration_page_is_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_configuration_page_does_not_depend_on_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONSWEEP_NODE", "elsewhere")
    test_the_configuration_page_is_current()
