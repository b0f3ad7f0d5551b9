"""What the app's configuration says: our settings, those of the Talk2Me document, and Flask's own lifetimes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flask import Flask

from sessionsweep.errors import ConfigurationError
from sessionsweep.integrations.paths import PathPatterns
from sessionsweep.settings import PREFIX, Settings, VolumeSpec
from sessionsweep.settings_report import nearest

NO_ACTIVITY_PATHS = f"{PREFIX}NO_ACTIVITY_PATHS"
TIME_LEFT_HEADER = f"{PREFIX}TIME_LEFT_HEADER"
#: Flask configuration values with our prefix that are no settings of a deployment.
OPTIONS = frozenset({NO_ACTIVITY_PATHS, TIME_LEFT_HEADER})

#: The names of the Talk2Me document, from the app's configuration or the environment, and what they set.
DOCUMENTED = {
    "MAX_SESSION_DURATION": "max_duration",
    "MAX_SESSION_IDLE_TIME": "idle_timeout",
    "MAX_RESOURCES_PER_SESSION": "max_resources_per_session",
    "MAX_BYTES_PER_SESSION": "max_bytes_per_session",
    "SESSION_CLEANUP_INTERVAL": "cleanup_interval",
    "SESSION_STORAGE_PATH": "volumes",
}
LONGEST = 30 * 365 * 86400.0  # seconds that fit into a session's record


def settings_of(app: Flask, given: Settings | None) -> Settings:
    """`given`, or the `SESSIONSWEEP_…` values of the app over the environment's; below both, the documented names.

    Raises:
        ConfigurationError: a value is impossible; says where it stands.
    """
    settings = given or Settings(**_own(app))
    named = {name: app.config.get(name, os.environ.get(name)) for name in DOCUMENTED}
    values: dict[str, Any] = {DOCUMENTED[name]: value for name, value in named.items() if value not in (None, "")}
    if not values:
        return settings
    if "volumes" in values:
        values["volumes"] = (VolumeSpec("sessions", os.path.abspath(values["volumes"])),)
    try:
        return settings.with_framework_defaults(**values)
    except ConfigurationError as error:
        names = ", ".join(name for name in DOCUMENTED if DOCUMENTED[name] in values)
        raise ConfigurationError(f"{error} (The values come from {names}.)") from None


def _own(app: Flask) -> dict[str, Any]:
    """The app's values of our settings, by field."""
    keys = [key for key in app.config if key.startswith(PREFIX) and key not in OPTIONS]
    known = [*Settings.model_fields, *(option.removeprefix(PREFIX).lower() for option in OPTIONS)]
    for key in keys:
        name = key.removeprefix(PREFIX).lower()
        if name not in Settings.model_fields:
            raise ConfigurationError(f"{key} is not a setting; {nearest(name, known, variable=True)}")
    return {key.removeprefix(PREFIX).lower(): app.config[key] for key in keys}


@dataclass(frozen=True, slots=True)
class Options:
    """What an app's requests need to know besides the settings."""

    no_activity: PathPatterns
    time_left_header: str | None

    @classmethod
    def of(cls, app: Flask) -> Options:
        """From the app's configuration. Raises ConfigurationError."""
        patterns: str | Iterable[str] = app.config.get(NO_ACTIVITY_PATHS) or ()
        listed = [patterns] if isinstance(patterns, str) else patterns
        return cls(PathPatterns(listed, NO_ACTIVITY_PATHS), app.config.get(TIME_LEFT_HEADER) or None)


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long sessions live: what somebody set of ours wins, then Flask's for permanent ones, then our defaults."""

    settings: Settings
    permanent: timedelta  # PERMANENT_SESSION_LIFETIME
    sliding: bool  # SESSION_REFRESH_EACH_REQUEST: the cookie's time begins anew with each request

    def of(self, permanent: bool, age: float) -> tuple[float, float]:
        """(idle, max) in seconds for a session that is `age` seconds old; a max of 0 is none."""
        idle, longest = self.settings.idle_timeout, self.settings.max_duration
        if permanent:
            lifetime = min(max(self.permanent.total_seconds(), 1.0), LONGEST)
            if not self._is_set("idle_timeout"):
                idle = lifetime
            if not self._is_set("max_duration"):
                longest = 0.0 if self.sliding else min(age + lifetime, LONGEST)
        return idle, longest

    def _is_set(self, name: str) -> bool:
        return self.settings.sources()[name] != "default"
