"""A Django project around its sessions: settings, keys, system checks, commands, and real server processes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from support import django_site
from support.processes import LocalProcess, local_processes, wait_until

django_site.ready()

from django.core.management import call_command  # noqa: E402
from django.core.management.base import CommandError  # noqa: E402
from django.test import override_settings  # noqa: E402

from sessionsweep import ConfigurationError, Sessions  # noqa: E402
from sessionsweep.integrations.django import SessionStore, configured, settings  # noqa: E402
from sessionsweep.integrations.django.checks import check_deployment, check_settings  # noqa: E402
from sessionsweep_workers.devstack.ports import free_port  # noqa: E402

DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"
CACHE = "django.middleware.cache.UpdateCacheMiddleware"
OWN = "o" * 40


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No deployment is left over from another test, and the environment says nothing."""
    for name in [name for name in os.environ if name.startswith("SESSIONSWEEP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(configured, "_current", None)
    yield
    if configured._current is not None:
        configured._current.sessions.close()


def ids(**more: Any) -> list[str]:
    with override_settings(**more):
        return [message.id or "" for message in check_settings()]


# settings


def test_djangos_ages_take_the_place_of_our_defaults() -> None:
    with override_settings(SESSION_COOKIE_AGE=7200):
        made = settings()
    assert (made.idle_timeout, made.max_duration, made.hold) == (7200, 0, 900)
    assert made.sources()["idle_timeout"] == "framework"
    with override_settings(SESSION_COOKIE_AGE=60):
        assert settings().hold == 60


def test_what_is_said_of_ours_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONSWEEP_MAX_DURATION", "8h")
    monkeypatch.setenv("SESSIONSWEEP_NODE", "from-env")
    with override_settings(SESSIONSWEEP={"REDIS_URL": "memory://", "NODE": "from-dict", "VOLUMES": None}):
        made = settings()
    assert (made.max_duration, made.node) == (28800, "from-dict")


def test_an_unknown_setting_is_refused() -> None:
    with (
        override_settings(SESSIONSWEEP={"REDIS_ULR": "memory://"}),
        pytest.raises(ConfigurationError, match="SESSIONSWEEP: REDIS_ULR is not a setting; did you mean REDIS_URL"),
    ):
        settings()
    with override_settings(SESSIONSWEEP="memory://"), pytest.raises(ConfigurationError, match="SESSIONSWEEP is a str"):
        settings()


def test_keys_come_of_djangos_unless_ours_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with override_settings(SECRET_KEY="a" * 50, SECRET_KEY_FALLBACKS=["b" * 50]):
        first, second = settings().signing_keys
        assert b"a" * 50 not in (first, second), "never Django's own"
        with override_settings(SECRET_KEY="b" * 50, SECRET_KEY_FALLBACKS=[]):
            assert settings().signing_keys == (second,)
        with override_settings(SESSIONSWEEP={"REDIS_URL": "memory://", "SECRET_KEY": OWN}):
            assert settings().signing_keys == (OWN.encode(),)
        monkeypatch.setenv("SESSIONSWEEP_SECRET_KEY", OWN)
        assert settings().signing_keys == (OWN.encode(),)


def test_a_key_that_was_replaced_still_opens(redis_url: str, namespace: str) -> None:
    where = {"REDIS_URL": redis_url, "NAMESPACE": namespace}
    with override_settings(SESSIONSWEEP=where, SECRET_KEY="a" * 50):
        session = SessionStore()
        session["a"] = 1
        session.save()
    with override_settings(SESSIONSWEEP=where, SECRET_KEY="b" * 50, SECRET_KEY_FALLBACKS=["a" * 50]):
        assert SessionStore(session.session_key).get("a") == 1
    with override_settings(SESSIONSWEEP=where, SECRET_KEY="b" * 50):
        assert SessionStore(session.session_key).get("a") is None


def test_overriding_settings_in_a_test_takes_effect_and_closes_what_was(redis_url: str, namespace: str) -> None:
    with override_settings(SESSIONSWEEP={"REDIS_URL": redis_url, "NAMESPACE": namespace}):
        first = configured.current()
        SessionStore().save()
        assert first.sessions.settings.redis_url == redis_url
    assert configured._current is None
    assert configured.current().sessions.settings.in_memory


def test_memory_sweeps_itself(tmp_path: Path) -> None:
    where = {"REDIS_URL": "memory://", "VOLUMES": f"one={tmp_path / 'one'}", "CLEANUP_INTERVAL": "50ms"}
    with override_settings(SESSIONSWEEP=where):
        session = SessionStore()
        with session.resources.new_file(suffix=".txt") as f:
            f.write(b"x")
        sweeper = configured.current().sweeper
        assert sweeper is not None
        session.flush()
        with sweeper.round_done:
            assert sweeper.round_done.wait_for(lambda: not f.path.exists(), 60)


# checks


@pytest.mark.parametrize(
    ("misspelt", "told"),
    [
        ("REDIS_URI", "REDIS_URI is not a setting; did you mean REDIS_URL?"),
        ("SESSIONSWEEP_REDIS_URL", "names have no SESSIONSWEEP_ here: write REDIS_URL"),
        ("NO_ACTIVITY_PATH", "did you mean NO_ACTIVITY_PATHS?"),
        ("COLOUR", "remove it; `manage.py sessionsweep config show` lists all settings"),
    ],
)
def test_a_misspelt_name_is_told_as_the_project_has_to_write_it(misspelt: str, told: str) -> None:
    with override_settings(SESSIONSWEEP={misspelt: "x"}):
        [found] = check_settings()
    assert found.id == "sessionsweep.E001"
    assert found.msg.startswith("SESSIONSWEEP: ")
    assert found.msg.endswith(told)


def test_a_usual_project_has_nothing_to_hear() -> None:
    assert ids() == []


@pytest.mark.parametrize(
    ("found", "more"),
    [
        ("sessionsweep.E001", {"SESSIONSWEEP": {"IDLE_TIMEOUT": "soon"}}),
        ("sessionsweep.E001", {"SESSIONSWEEP": {"REDIS_URL": "memory://", "NO_ACTIVITY_PATHS": ["poll"]}}),
        ("sessionsweep.E002", {"SESSION_SERIALIZER": f"{__name__}.Pickle"}),
        ("sessionsweep.E002", {"SESSION_SERIALIZER": "nowhere.Serializer"}),
        ("sessionsweep.W001", {"SESSIONSWEEP": {"REDIS_URL": "memory://", "MAX_DURATION": "1h"}}),
        ("sessionsweep.W002", {"SESSIONSWEEP": {"REDIS_URL": "memory://", "IDLE_TIMEOUT": "1h"}}),
        ("sessionsweep.W003", {"MIDDLEWARE": [DJANGOS, CACHE]}),
        ("sessionsweep.W003", {"MIDDLEWARE": [django_site.MIDDLEWARE, CACHE]}),
        ("sessionsweep.E004", {"MIDDLEWARE": [django_site.MIDDLEWARE, DJANGOS]}),
        (
            "sessionsweep.E003",
            {"SESSIONSWEEP": {"REDIS_URL": "memory://", "CLIENT_BINDING": "strict", "TRUSTED_PROXIES": "none"}},
        ),
    ],
)
def test_each_bad_setting_is_named(found: str, more: dict[str, Any]) -> None:
    assert ids(**more) == [found]


def test_what_is_right_is_not_named() -> None:
    bound = {"REDIS_URL": "memory://", "CLIENT_BINDING": "strict", "TRUSTED_PROXIES": "none", "MAX_DURATION": "365d"}
    assert ids(SESSIONSWEEP=bound, MIDDLEWARE=[CACHE, django_site.MIDDLEWARE]) == []
    other = "django.contrib.sessions.backends.db"
    assert ids(SESSION_ENGINE=other, SESSIONSWEEP={"REDIS_URL": "memory://", "IDLE_TIMEOUT": "1h"}) == []


class Pickle:
    """Not JSON."""

    def dumps(self, obj: Any) -> bytes:
        return b"\x80\x04"


def test_a_deployment_is_told_what_is_for_development_only() -> None:
    def deployed(**said: Any) -> list[str]:
        with override_settings(SESSIONSWEEP=said):
            return [message.id or "" for message in check_deployment()]

    assert deployed(REDIS_URL="memory://") == ["sessionsweep.W005"]
    assert deployed() == ["sessionsweep.W006"]
    assert deployed(REDIS_URL="redis://localhost:6379/0") == []
    assert deployed(IDLE_TIMEOUT="soon") == []


def test_the_checks_are_registered() -> None:
    with override_settings(SESSIONSWEEP={"IDLE_TIMEOUT": "soon"}), pytest.raises(CommandError, match="E001"):
        call_command("check")


# commands


@pytest.fixture
def project(tmp_path: Path, redis_url: str, namespace: str) -> Path:
    """A project's folder, with a manage.py of its own."""
    (tmp_path / "site_settings.py").write_text(
        f"""
SECRET_KEY = {"s" * 50!r}
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "support.django_urls"
INSTALLED_APPS = [
    "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", {django_site.ENGINE!r},
]
MIDDLEWARE = [{django_site.MIDDLEWARE!r}]
SESSION_ENGINE = {django_site.ENGINE!r}
SESSIONSWEEP = {{
    "REDIS_URL": {redis_url!r}, "NAMESPACE": {namespace!r}, "NODE": "node-a", "VOLUMES": {f"one={tmp_path / 'one'}"!r},
}}
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": {str(tmp_path / "db")!r}}}}}
"""
    )
    (tmp_path / "manage.py").write_text(
        "from django.core.management import execute_from_command_line as e\nimport sys\ne(sys.argv)"
    )
    (tmp_path / "site_app.py").write_text(
        "from django.core.asgi import get_asgi_application\nfrom django.core.wsgi import get_wsgi_application\n"
        "application, asgi = get_wsgi_application(), get_asgi_application()"
    )
    return tmp_path


def environment(project: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONSWEEP_")}
    path = os.pathsep.join([str(project), str(Path(__file__).parents[1])])
    return {**kept, "DJANGO_SETTINGS_MODULE": "site_settings", "PYTHONPATH": path}


def manage(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(project / "manage.py"), *words]
    return subprocess.run(argv, env=environment(project), capture_output=True, text=True, timeout=60, check=False)


def test_the_command_line_with_the_projects_settings(project: Path, redis_url: str, namespace: str) -> None:
    where = {"REDIS_URL": redis_url, "NAMESPACE": namespace}
    with override_settings(SESSIONSWEEP=where, SECRET_KEY="s" * 50):
        session = SessionStore()
        session["_auth_user_id"] = "7"
        session.save()
    listed = manage(project, "sessionsweep", "sessions", "list", "--user", "7", "--json")
    assert listed.returncode == 0, listed.stderr
    [one] = json.loads(listed.stdout)["sessions"]
    assert one["user_id"] == "7"
    assert session.session_key not in listed.stdout
    shown = manage(project, "sessionsweep", "config", "show", "--json")
    values = {row["name"]: row["value"] for row in json.loads(shown.stdout)}
    assert "(14d)" in values["idle_timeout"]
    assert manage(project, "sessionsweep", "nonsense").returncode == 2
    failed = manage(project, "sessionsweep", "sessions", "show", "a" * 20)
    assert (failed.returncode, "Traceback" in failed.stderr) == (1, False)
    assert "sessions list" in manage(project, "sessionsweep", "--help").stdout
    assert manage(project, "sessionsweep", "users", "end", "7", "--yes").returncode == 0
    assert json.loads(manage(project, "sessionsweep", "sessions", "list", "--json").stdout)["sessions"] == []


def test_clearsessions_is_a_sweep(project: Path, redis_url: str, namespace: str) -> None:
    with override_settings(SESSIONSWEEP={"REDIS_URL": redis_url, "NAMESPACE": namespace}, SECRET_KEY="s" * 50):
        session = SessionStore()
        session.set_expiry(-1)
        session.save()
        here = configured.sessions()
        assert here.stats().active_sessions == 1

        def swept() -> bool:  # its slot of the wheel has to be over
            assert manage(project, "clearsessions").returncode == 0
            return here.stats().active_sessions == 0

        wait_until(swept, 30)
        assert here.stats().ended_by_reason == {"idle": 1}


def test_call_command(redis_url: str, namespace: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    with override_settings(SESSIONSWEEP={"REDIS_URL": redis_url, "NAMESPACE": namespace}):
        call_command("sessionsweep", "stats", "--json", stdout=io.StringIO())
        assert json.loads(capsys.readouterr().out)
        with pytest.raises(CommandError):
            call_command("sessionsweep", "nonsense")


# server processes


CLIENTS = int(os.environ.get("DJANGO_CLIENTS", "10"))
ROUNDS = int(os.environ.get("DJANGO_ROUNDS", "20"))  # requests of each; `make scale` runs 100 of 100


def test_two_processes_alternating(project: Path, redis_url: str, namespace: str) -> None:
    """One under WSGI, one under ASGI: they share nothing but the store."""
    ports = free_port(), free_port()
    at = [f"http://127.0.0.1:{port}" for port in ports]
    gunicorn = ["python", "-m", "gunicorn", "-b", f"127.0.0.1:{ports[0]}", "--threads", "4", "site_app:application"]
    uvicorn = ["python", "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(ports[1]), "site_app:asgi"]

    def up(base: str) -> bool:
        try:
            return httpx.get(f"{base}/untouched", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    env = environment(project)
    both = [
        LocalProcess(name, argv, project, env=env, cwd=project, ready_when=partial(up, base), ready_timeout=60)
        for name, argv, base in zip(("wsgi", "asgi"), (gunicorn, uvicorn), at, strict=True)
    ]
    with local_processes(*both):
        clients = [httpx.Client(timeout=30) for _ in range(CLIENTS)]
        seen: dict[int, str] = {}
        for turn in range(ROUNDS):
            for number, client in enumerate(clients):
                answer = client.get(f"{at[(turn + number) % 2]}/count").json()
                assert answer["count"] == turn + 1
                assert seen.setdefault(number, answer["id"]) == answer["id"]
        assert len(set(seen.values())) == len(clients)
        rid = clients[0].post(f"{at[0]}/aupload", files={"photo": ("x.txt", b"bytes")}).json()["id"]
        assert clients[0].get(f"{at[1]}/file/{rid}").content == b"bytes"
        assert clients[0].get(f"{at[1]}/flush").status_code == 200
        for client in clients:
            client.close()
        here = Sessions(_settings(redis_url, namespace))
        assert here.stats().active_sessions == len(clients) - 1
        here.close()


def _settings(redis_url: str, namespace: str) -> Any:
    with override_settings(SESSIONSWEEP={"REDIS_URL": redis_url, "NAMESPACE": namespace}, SECRET_KEY="s" * 50):
        return settings()
