"""The Celery app as it is built from settings: broker, isolation, schedule, log lines."""

from __future__ import annotations

import logging
import os
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from worker_cluster import KEY, Cluster

from sessionsweep import ConfigurationError, Settings
from sessionsweep.units import parse_duration
from sessionsweep_workers import names
from sessionsweep_workers.application import VISIBILITY, broker_url, build, configuration
from sessionsweep_workers.devstack.server import EmbeddedServer
from sessionsweep_workers.logs import Fields
from sessionsweep_workers.tasks import BUDGET, OPTIONS
from support.processes import wait_until


def settings(url: str = "redis://localhost:6379/0", **values: object) -> Settings:
    return Settings(redis_url=url, secret_key=KEY, **values)


@pytest.mark.parametrize(
    ("store", "broker"),
    [
        ("redis://h:1/2", "redis://h:1/2"),
        ("rediss://h:1/2", "rediss://h:1/2"),
        ("unix:///run/redis.sock?db=3", "redis+socket:///run/redis.sock?virtual_host=3"),
        ("unix://u:p@/run/redis.sock", "redis+socket://u:p@/run/redis.sock"),
    ],
)
def test_the_stores_url_is_the_brokers_in_its_transports_form(store: str, broker: str) -> None:
    assert broker_url(settings(store)) == broker


def test_a_broker_url_of_its_own_wins() -> None:
    assert broker_url(settings(broker_url="amqp://u:p@h//")) == "amqp://u:p@h//"
    assert broker_url(settings(broker_url="unix:///run/b.sock")) == "redis+socket:///run/b.sock"


def test_memory_needs_a_broker_of_its_own() -> None:
    with pytest.raises(ConfigurationError, match="SESSIONSWEEP_BROKER_URL is not set"):
        build(Settings(redis_url="memory://"))


def test_tls_verifies_the_server_against_the_authority_that_the_url_names() -> None:
    tls = configuration(settings("rediss://h:1/0?ssl_ca_certs=/etc/ca.pem"))["broker_use_ssl"]
    assert tls == {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": "/etc/ca.pem"}
    app = build(settings("rediss://h:1/0?ssl_ca_certs=/etc/ca.pem"))
    with app.connection_for_write() as connection:
        assert connection.ssl == tls


def test_every_key_of_the_broker_begins_with_the_namespace() -> None:
    app = build(settings(namespace="other"))
    assert app.conf.broker_transport_options["global_keyprefix"] == "other:celery:"


def test_other_brokers_get_no_options_of_redis() -> None:
    assert configuration(settings(broker_url="amqp://h//"))["broker_transport_options"] == {}


def test_messages_come_back_long_after_a_task_could_have_ended() -> None:
    assert BUDGET * 3 < VISIBILITY
    assert OPTIONS["time_limit"] < VISIBILITY


def test_tasks_and_messages_are_json_alone() -> None:
    app = build(settings())
    assert app.conf.accept_content == ["json"]
    assert {app.tasks[name].serializer for name in names.TASKS} == {"json"}


def test_only_our_six_tasks_are_added() -> None:
    app = build(settings())
    assert {name for name in app.tasks if not name.startswith(("celery.", "pytest_celery."))} == set(names.TASKS)


def test_beat_sends_each_pass_at_its_interval() -> None:
    app = build(settings(cleanup_interval=0.5, orphan_interval="2h"))
    sent = {entry["task"]: entry["schedule"] for entry in app.conf.beat_schedule.values()}
    assert sent == {
        names.SWEEP_IDLE: 0.5,
        names.SWEEP_EXPIRED: 0.5,
        names.RECLAIM: 0.5,
        names.SWEEP_ORPHANS: parse_duration("2h"),
    }


def test_nothing_of_celerys_variables_leaks_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_url: str) -> None:
    (tmp_path / "foreign_celeryconfig.py").write_text("task_default_queue = 'foreign'\ntimezone = 'Asia/Tokyo'\n")
    monkeypatch.syspath_prepend(tmp_path)
    foreign = {
        "CELERY_BROKER_URL": "amqp://foreign//",
        "CELERY_BROKER_READ_URL": "amqp://foreign-read//",
        "CELERY_BROKER_WRITE_URL": "amqp://foreign-write//",
        "CELERY_RESULT_BACKEND": "redis://foreign/5",
        "CELERY_CONFIG_MODULE": "foreign_celeryconfig",
        "CELERY_LOADER": "default",
    }
    for name, value in foreign.items():
        monkeypatch.setenv(name, value)
    app = build(settings(redis_url))
    with app.connection_for_read() as reading, app.connection_for_write() as writing:
        assert reading.as_uri(include_password=True) == writing.as_uri(include_password=True) == redis_url.rstrip("/")
    assert app.conf.broker_url == app.conf.broker_read_url == app.conf.broker_write_url == redis_url
    assert app.backend.as_uri() == "disabled://"
    assert app.conf.result_backend is None
    assert app.conf.task_default_queue == names.QUEUE
    assert app.conf.timezone == "UTC"
    assert {name: os.environ[name] for name in foreign} == foreign  # another app of this process still has them


def test_importing_the_package_needs_no_settings_and_no_celery() -> None:
    code = "import sys; import sessionsweep_workers; assert 'celery' not in sys.modules; "
    code += "from sessionsweep_workers import install, installation; assert callable(install)"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONSWEEP_")}
    subprocess.run([sys.executable, "-c", code], env=clean, check=True, timeout=60)


def test_a_wrong_setting_is_named_when_the_app_is_asked_for() -> None:
    env = {**os.environ, "SESSIONSWEEP_CLEANUP_INTERVAL": "soon", "SESSIONSWEEP_SECRET_KEY": KEY}
    argv = [sys.executable, "-m", "celery", "-A", "sessionsweep_workers", "beat"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "SESSIONSWEEP_CLEANUP_INTERVAL" in done.stderr


def test_a_unix_socket_carries_messages(own_server: Callable[..., EmbeddedServer], tmp_path: Path) -> None:
    server = own_server(unix_socket=tmp_path / "s")
    app = build(settings(f"unix://:{server.password}@{tmp_path / 's'}?db=1", namespace="sock"))
    app.tasks[names.SWEEP_IDLE].apply_async()
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue(names.declared(names.QUEUE)).get(timeout=5)
        assert message.headers["task"] == names.SWEEP_IDLE
    app.close()


def test_a_log_line_shows_its_fields_and_cannot_be_forged() -> None:
    record = logging.makeLogRecord({"msg": "held", "levelname": "WARNING", "why": "x\n[2026] INFO all is well\r"})
    line = Fields("%(levelname)s %(message)s").format(record)
    assert line == "WARNING held why=x\\n[2026] INFO all is well\\r"


@pytest.mark.smoke
def test_a_worker_tells_no_password_of_its_brokers(make_cluster: Callable[..., Cluster], redis_url: str) -> None:
    password = redis_url.partition("@")[0].rpartition(":")[2]
    assert len(password) > 8
    cluster = make_cluster(broker_url=f"{redis_url};{redis_url}")
    worker = cluster.worker("a")
    app = build(cluster.sessions().settings)
    assert password in repr(app.connection_for_read().info()), "Celery starts from this, and leaves it out"
    inspect = app.control.inspect(timeout=5.0, limit=1)
    for ask in (inspect.stats, inspect.conf, inspect.report, inspect.registered, inspect.active_queues):
        told: list[object] = []
        wait_until(lambda ask=ask, told=told: told.append(ask()) or told[-1], 30, f"it tells its {ask.__name__}")
        assert password not in repr(told)
    assert password not in worker.logs()
    app.close()
