"""Builds the Celery app from settings: broker, queues, schedule. The one place where Celery is configured."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from celery import Celery
from celery.app.utils import Settings as CelerySettings
from celery.loaders.app import AppLoader

from sessionsweep.settings import Settings
from sessionsweep.settings_values import broker_from_store
from sessionsweep_workers import logs
from sessionsweep_workers.installation import install
from sessionsweep_workers.names import QUEUE, declared

VISIBILITY = 120  # seconds until a killed worker's message comes back; tasks stay well under a third of it


class Isolated(Celery):  # type: ignore[misc]
    """A Celery app that takes nothing from CELERY_… variables, and survives what is no message.

    Celery lets CELERY_BROKER_URL, CELERY_RESULT_BACKEND and CELERY_CONFIG_MODULE override an app's own settings. On a
    host of another Celery app they are that one's, and would send our tasks to its broker.
    """

    backend_cls = "disabled://"  # before CELERY_RESULT_BACKEND is asked
    amqp_cls = "sessionsweep_workers.broker:CheckedAMQP"
    task_cls = "sessionsweep_workers.request:JsonTask"  # Celery's own tasks, too

    def _load_config(self) -> CelerySettings:
        conf = super()._load_config()
        # the same object, as others may hold it; a plain assignment would set a key of that name
        object.__setattr__(conf, "__class__", _IsolatedSettings)
        return conf

    def connection_for_read(self, url: str | None = None, **options: Any) -> Any:
        """To our broker."""
        return super().connection_for_read(url or self.conf["broker_url"], **options)

    def connection_for_write(self, url: str | None = None, **options: Any) -> Any:
        """To our broker."""
        return super().connection_for_write(url or self.conf["broker_url"], **options)


class _IsolatedSettings(CelerySettings):  # type: ignore[misc]
    """What Celery reads from the environment is read from the settings alone."""

    @property
    def broker_url(self) -> Any:
        return self["broker_url"]

    broker_read_url = broker_write_url = broker_url

    @property
    def result_backend(self) -> Any:
        return self["result_backend"]


class _NoModule(AppLoader):  # type: ignore[misc]
    """Reads no configuration module, whatever CELERY_CONFIG_MODULE names."""

    def read_configuration(self, env: str = "") -> dict[str, Any]:
        return {}


def build(settings: Settings | None = None) -> Celery:
    """A whole app of our own.

    Raises:
        ConfigurationError: a setting is impossible; names the variable and the fix.
    """
    settings = settings or Settings.from_env()
    # not made the current app: a dispatcher builds one inside processes that have an app of their own
    app = Isolated("sessionsweep", loader=_NoModule, set_as_current=False)
    app.conf.update(configuration(settings))
    logs.connect()
    return install(app, settings)


def configuration(settings: Settings) -> dict[str, Any]:
    """Celery's settings for an app that is ours alone."""
    url = broker_url(settings)
    return {
        "broker_url": without_tls_options(url),
        "broker_use_ssl": tls(url) or False,
        "broker_transport_options": transport_options(url, settings.namespace),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,  # a server that refuses a command (full, or not ours alone) ends no worker
        "result_backend": None,
        "task_ignore_result": True,
        "task_default_queue": QUEUE,
        "task_queues": [declared(QUEUE)],
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "accept_content": ["json"],
        "enable_utc": True,
        "timezone": "UTC",
        "worker_prefetch_multiplier": 1,
        # Flower shows results from events, without a result backend
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "worker_soft_shutdown_timeout": 5.0,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_log_color": False,
        "beat_scheduler": "sessionsweep_workers.beat:LeasedScheduler",
        # a beat that is asked nothing: its mailbox keeps a connection more with each restart of the broker (celery 5.7)
        "beat_enable_remote_control": False,
        "beat_max_loop_interval": 5,
    }


def transport_options(url: str, namespace: str) -> dict[str, Any]:
    """The transport's options; Redis' where the broker is one. Another broker's deployments are kept apart by its own
    means (a virtual host)."""
    if not url.startswith(("redis", "sentinel")):
        return {}
    options = {
        # two deployments on one Redis never see each other's queues, nor their unacknowledged messages
        "global_keyprefix": f"{namespace}:celery:",
        "visibility_timeout": VISIBILITY,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "health_check_interval": 25,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
    }
    if not url.startswith("redis+socket"):
        options["socket_keepalive"] = True
    return options


def tls(url: str) -> dict[str, Any] | None:
    """For `rediss://`: the server's certificate is verified, against the authority that the URL names (ASVS 12.3)."""
    parts = urlsplit(url)
    if parts.scheme != "rediss":
        return None
    named: dict[str, Any] = {key: value for key, value in parse_qsl(parts.query) if key.startswith("ssl_")}
    if "ssl_check_hostname" in named:
        named["ssl_check_hostname"] = named["ssl_check_hostname"].lower() in ("1", "true", "yes", "on")
    return {**named, "ssl_cert_reqs": ssl.CERT_REQUIRED}


def without_tls_options(url: str) -> str:
    """The URL without what `tls` read from it: what stands in a URL would replace the whole of `broker_use_ssl`."""
    parts = urlsplit(url)
    if parts.scheme != "rediss":
        return url
    rest = [(key, value) for key, value in parse_qsl(parts.query) if not key.startswith("ssl_")]
    return parts._replace(query=urlencode(rest)).geturl()


def broker_url(settings: Settings) -> str:
    """BROKER_URL, or the store's Redis, in the form that Celery's transport takes.

    Raises:
        ConfigurationError: there is none (`memory://`).
    """
    url = settings.require_broker_url()
    return broker_from_store(url) or url
