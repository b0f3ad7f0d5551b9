"""All settings, from arguments and the environment, validated once and then frozen.

Arguments win over the environment (`SESSIONSWEEP_…`), and that over the defaults. An empty variable counts as
not set, as compose files write it. Everything wrong is reported at once, as one `ConfigurationError`.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, SecretBytes, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from sessionsweep.errors import ConfigurationError
from sessionsweep.settings_report import PREFIX, DefaultText, Setting, Source, explain, nearest, shown
from sessionsweep.settings_values import (
    MAKE_KEY,
    Network,
    VolumeSpec,
    broker_from_store,
    parse_address,
    parse_broker_url,
    parse_count,
    parse_hooks,
    parse_keys,
    parse_name,
    parse_namespace,
    parse_proxies,
    parse_redis_url,
    parse_secret,
    parse_volumes,
    read_secret_file,
    redact_url,
)
from sessionsweep.units import parse_duration, parse_size

__all__ = ["PREFIX", "Setting", "Settings", "Source", "VolumeSpec", "redact_url"]

#: Signs the tokens of `memory://`: one for each process, as is what they open.
_MEMORY_KEY = (SecretBytes(secrets.token_urlsafe(32).encode()),)

Duration = Annotated[float, BeforeValidator(parse_duration)]
PositiveDuration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0.001)]
Size = Annotated[int, BeforeValidator(parse_size)]
Count = Annotated[int, BeforeValidator(parse_count), Field(ge=0)]


class Settings(BaseSettings):
    """Everything that can be configured; durations in seconds (float), sizes in bytes (int).

    `Settings()` and `Settings.from_env()` read the environment, `Settings(idle_timeout="15m")` overrides it.

    Raises:
        ConfigurationError: a setting is unknown, missing or impossible; every fault is named with its fix.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True
    )

    redis_url: Annotated[str, BeforeValidator(parse_redis_url)] = Field(
        "redis://localhost:6379/0",
        description="The Redis or Valkey server that holds all state: `redis://`, `rediss://` (TLS, "
        "verified), `unix://`, or `memory://` for one process without a server.",
    )
    broker_url: Annotated[
        str | None, BeforeValidator(parse_broker_url), DefaultText("`REDIS_URL`; none for `memory://`")
    ] = Field(
        default_factory=lambda data: broker_from_store(data["redis_url"]),
        description="Celery's broker, any that Celery knows. With `memory://` it must be said.",
    )
    namespace: Annotated[str, BeforeValidator(parse_namespace)] = Field(
        "ss",
        description="Begins every key, channel and broker key, so that deployments share a server unseen by "
        "each other: 1 to 32 letters, digits, `_`, `-`.",
    )
    secret_key: Annotated[
        tuple[SecretBytes, ...],
        BeforeValidator(parse_keys),
        DefaultText("none: required; `memory://` and `up` make a random one"),
    ] = Field(
        default_factory=lambda data: _MEMORY_KEY if data["redis_url"] == "memory://" else (),
        description="Keys of at least 32 characters, separated by commas: the first signs, all verify, so a "
        f"new one goes to the front and the old one leaves after `MAX_DURATION`. Make one: `{MAKE_KEY}`.",
    )
    secret_key_file: str | None = Field(
        None, description="A file that holds `SECRET_KEY` (a Docker or Kubernetes secret), instead of it."
    )
    idle_timeout: PositiveDuration = Field(
        900.0, description="A session without a request for so long is over (ASVS 7.1.1)."
    )
    max_duration: Duration = Field(
        3600.0, description="A session is over so long after its start, however busy; 0 = never."
    )
    grace_period: Duration = Field(
        30.0,
        description="How long after an idle or absolute end its resources stay, for requests under way; a "
        "log-out reclaims at once.",
    )
    cleanup_interval: PositiveDuration = Field(
        60.0, description="How often ended sessions are swept and their resources reclaimed."
    )
    orphan_interval: PositiveDuration = Field(3600.0, description="How often volumes are searched for orphans.")
    orphan_min_age: Duration = Field(3600.0, description="Files younger than this are never taken for orphans.")
    hold: Annotated[Duration, DefaultText("`IDLE_TIMEOUT`")] = Field(
        default_factory=lambda data: data["idle_timeout"],
        description="How long idle ends and orphan deletion stop after the server restarted or its clock "
        "jumped, so that live clients are heard again.",
    )
    max_resources_per_session: Annotated[Count, Field(ge=1, le=1000)] = Field(
        100, description="Resources a session may own, 1 to 1000; at the limit the least recently used go."
    )
    max_bytes_per_session: Size = Field(
        100_000_000, description="Bytes a session's resources may take together; 0 = no limit."
    )
    max_streams_per_session: Annotated[Count, Field(ge=1, le=1000)] = Field(
        20, description="Open streams a session may have, 1 to 1000; streams are refused, never evicted."
    )
    max_sessions: Count = Field(0, description="Live sessions in all; 0 = no limit.")
    max_sessions_per_user: Count = Field(0, description="Live sessions of one user (ASVS 7.1.2); 0 = no limit.")
    on_user_limit: Literal["refuse", "end-oldest"] = Field(
        "refuse", description="At `MAX_SESSIONS_PER_USER`: `refuse` the new session or `end-oldest`."
    )
    max_resources_per_user: Count = Field(0, description="Resources all sessions of a user own; 0 = no limit.")
    max_bytes_per_user: Size = Field(0, description="Bytes all sessions of a user take; 0 = no limit.")
    client_binding: Literal["off", "log", "subnet", "strict"] = Field(
        "log",
        description="What happens when a session's address or user agent changes: `off` nothing, `log` an "
        "event, `subnet` refuses another IPv4 /24, IPv6 /64 or user agent, `strict` any other address or "
        "user agent. The last two need `TRUSTED_PROXIES`.",
    )
    trusted_proxies: Annotated[
        tuple[Network, ...] | None, BeforeValidator(parse_proxies), DefaultText("not set: none is believed")
    ] = Field(
        None,
        description="Addresses or networks, separated by commas, whose forwarded headers are believed; "
        "`none` says that clients connect directly.",
    )
    cookie_secure: Literal["auto", "always", "never"] = Field(
        "auto",
        description="The cookie's `Secure` flag in ASGI apps; `auto` follows the request. Flask and Django "
        "keep their own cookie settings.",
    )
    volumes: Annotated[tuple[VolumeSpec, ...], BeforeValidator(parse_volumes), DefaultText("none")] = Field(
        (),
        description="This node's storage roots: `name=/path,other=/path?ephemeral`; an ephemeral one dies "
        "with its node (a container's own disk). New files go to the first.",
    )
    node: Annotated[str, BeforeValidator(parse_name), DefaultText("the host's name")] = Field(
        default_factory=lambda: socket.gethostname(),
        description="This node's name; it must be its own and stay the same over restarts.",
    )
    partitions: Annotated[Count, Field(ge=1, le=256)] = Field(
        1,
        description="Slices of the keyspace for new sessions, 1 to 256; more than 1 only for Redis Cluster.",
    )
    sweeper: Annotated[Literal["workers", "in-process"], DefaultText("`workers`; `in-process` for `memory://`")] = (
        Field(
            default_factory=lambda data: "in-process" if data["redis_url"] == "memory://" else "workers",
            description="Who sweeps and reclaims: Celery `workers`, or a thread of each web process.",
        )
    )
    mode: Literal["enforce", "observe"] = Field(
        "enforce",
        description="`observe` tracks everything, destroys nothing, and reports what it would have done.",
    )
    event_hooks: Annotated[tuple[str, ...], BeforeValidator(parse_hooks), DefaultText("none")] = Field(
        (),
        description="Functions that are told of every event, as `module:function,other:function`; whoever sweeps (the "
        "workers, or the in-process sweeper) imports and calls them.",
    )
    admin_token: Annotated[SecretStr | None, BeforeValidator(parse_secret), DefaultText("none")] = Field(
        None,
        description="The tokens of the admin side (`X-Admin-Token`), separated by commas or lines, each `[read|write] "
        "TOKEN [UNTIL]`; `sha256:` and a hash may stand for TOKEN. Without any it refuses to start.",
    )
    admin_token_file: str | None = Field(None, description="A file that holds `ADMIN_TOKEN`, instead of it.")
    metrics: bool = Field(
        False,
        description="Whether each process measures what it does, for Prometheus. Needs the extra `metrics`.",
    )
    metrics_address: Annotated[str, BeforeValidator(parse_address), DefaultText("none")] = Field(
        "",
        description="Where a worker serves what its processes measured: a port (on loopback) or `HOST:PORT`. Needs "
        "`METRICS`.",
    )
    lease: PositiveDuration = Field(
        60.0,
        description="For so long one worker alone works on an entry; a dead worker's batch waits this long.",
    )
    reclaim_tries: Annotated[Count, Field(ge=1, le=1000)] = Field(
        8, description="Failed attempts, with back-off, after which a resource becomes a dead letter."
    )
    intent_timeout: PositiveDuration = Field(
        900.0, description="A file whose writer was silent for so long before committing it is reclaimed."
    )
    tombstone_retention: Duration = Field(
        86400.0, description="How long the receipt of an ended session stays once all it owned is gone."
    )
    node_timeout: PositiveDuration = Field(
        600.0, description="A node silent for so long is gone, and its ephemeral volumes with it."
    )
    socket_timeout: PositiveDuration = Field(
        5.0, description="How long a request waits for the server before it gets a typed error."
    )

    _sources: dict[str, Source] = PrivateAttr(default_factory=dict)

    def __init__(self, **values: Any) -> None:
        # No signature from the fields: arguments may be text, as in the environment ("15m", "100MB").
        environment = _read_environment(os.environ)
        fault: str | None = None
        try:
            super().__init__(**values)
        except ValidationError as error:
            fault = explain(error, values, type(self).model_fields)
        if fault is not None:  # raised outside `except`: pydantic's error holds the raw values, secrets too
            raise ConfigurationError(fault)
        for name in type(self).model_fields:
            self._sources[name] = "argument" if name in values else "environment" if name in environment else "default"
        for name in ("secret_key", "admin_token"):
            file = f"{name}_file"
            if getattr(self, file):
                self._sources[name] = "file"
            elif file not in values:
                self._sources[file] = "default"  # an argument replaced the variable that named a file

    @classmethod
    def from_env(cls) -> Settings:
        """The settings of the environment alone."""
        return cls()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then our own reading of the environment: exact names, raw text, unknown refused."""
        return init_settings, _Environment(settings_cls)

    @model_validator(mode="before")
    @classmethod
    def _read_files(cls, data: dict[str, Any]) -> dict[str, Any]:
        for name in ("secret_key", "admin_token"):
            path = data.get(f"{name}_file")
            if not path:
                continue
            variable = PREFIX + name.upper()
            if name in data:
                raise ValueError(f"{variable} and {variable}_FILE are both set; leave one out")
            try:
                data = {**data, name: read_secret_file(path)}
            except ValueError as error:
                raise ValueError(f"{variable}_FILE: {error}") from None
        return data

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        if not self.secret_key:
            raise ValueError(
                f"{PREFIX}SECRET_KEY is not set, and {redact_url(self.redis_url)!r} is shared by processes "
                f"that must sign alike; give all of them the same key. Make one: {MAKE_KEY}"
            )
        if self.redis_url == "memory://" and self.sweeper == "workers":
            raise ValueError(
                f"{PREFIX}SWEEPER='workers' can't reach {PREFIX}REDIS_URL='memory://', which is one "
                "process's memory; set SWEEPER=in-process or give a server's URL"
            )
        if self.client_binding in ("subnet", "strict") and self.trusted_proxies is None:
            raise ValueError(
                f"{PREFIX}CLIENT_BINDING={self.client_binding!r} needs {PREFIX}TRUSTED_PROXIES, or every "
                "client behind a proxy has the proxy's address; list the proxies, or write none if clients "
                "connect directly"
            )
        return self

    @property
    def signing_keys(self) -> tuple[bytes, ...]:
        """The secret keys as bytes: the first signs, all verify."""
        return tuple(key.get_secret_value() for key in self.secret_key)

    @property
    def in_memory(self) -> bool:
        """Whether the store is this process's own memory."""
        return self.redis_url == "memory://"

    def require_broker_url(self) -> str:
        """The broker's URL, for what needs a broker.

        Raises:
            ConfigurationError: there is none (`memory://` without `BROKER_URL`).
        """
        if self.broker_url is None:
            raise ConfigurationError(
                f"{PREFIX}BROKER_URL is not set, and {PREFIX}REDIS_URL='memory://' can't carry Celery's "
                "messages; set it to a broker's URL, such as redis://localhost:6379/1"
            )
        return self.broker_url

    def sources(self) -> dict[str, Source]:
        """Where each setting's value comes from."""
        return dict(self._sources)

    def is_explicit(self, name: str) -> bool:
        """Whether somebody set `name`, so that a framework's own setting must not replace it."""
        return self._sources[name] in ("argument", "environment", "file")

    def with_framework_defaults(self, **values: Any) -> Settings:
        """These settings, with `values` in place of defaults that nobody set (a framework's own lifetimes).

        Raises:
            ConfigurationError: a value is impossible.
        """
        taken = {
            name: value for name, value in values.items() if name not in self._sources or not self.is_explicit(name)
        }
        kept = {
            name: getattr(self, name)
            for name in type(self).model_fields
            if self.is_explicit(name) and not name.endswith("_file")
        }
        made = type(self)(**{**kept, **taken})
        made._sources = {**self._sources, **dict.fromkeys(taken, "framework")}
        return made

    def describe(self) -> list[Setting]:
        """Every setting as it stands, secrets and passwords redacted, in the order of the documentation."""
        return [
            Setting(
                name,
                PREFIX + name.upper(),
                shown(name, field, getattr(self, name)),
                self._sources[name],
                field.description or "",
            )
            for name, field in type(self).model_fields.items()
        ]

    def __repr_args__(self) -> list[tuple[str, Any]]:
        # pydantic's own repr would put the passwords of both URLs into a log or a traceback.
        return [(row.name, row.value) for row in self.describe()]


class _Environment(PydanticBaseSettingsSource):
    """Our variables as raw text; the fields' own validators parse it."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return _read_environment(os.environ).get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        values: dict[str, Any] = dict(_read_environment(os.environ))
        for name in ("secret_key", "admin_token"):
            # An argument, as a value or as a file, replaces both forms of the variable.
            if name in self.current_state or f"{name}_file" in self.current_state:
                values.pop(name, None)
                values.pop(f"{name}_file", None)
        return values


def _read_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Field names to raw text, of all variables with our prefix that aren't empty."""
    values = {}
    for variable, text in environ.items():
        if not variable.upper().startswith(PREFIX):
            continue
        name = variable[len(PREFIX) :].lower()
        if variable != PREFIX + name.upper() or name not in Settings.model_fields:
            raise ConfigurationError(
                f"{variable} is not a setting; {nearest(name, Settings.model_fields, variable=True)}"
            )
        if text:
            values[name] = text
    return values
