"""The deployment that a Django project's settings describe: made with its first use, one for each process."""

from __future__ import annotations

import hmac
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from typing import Any, cast

from django.conf import settings as django_settings
from django.contrib.sessions.backends.base import SessionBase
from django.core.signals import setting_changed
from django.utils.encoding import force_bytes

from sessionsweep.engine.inprocess import InProcessSweeper
from sessionsweep.errors import ConfigurationError
from sessionsweep.integrations.paths import PathPatterns
from sessionsweep.sessions.aio import AsyncSessions
from sessionsweep.sessions.sync import Sessions
from sessionsweep.settings import PREFIX, Settings

#: The domain of our key under Django's SECRET_KEY (HMAC as a key derivation, NIST SP 800-108): what either signs means
#: nothing to the other, and ours doesn't give Django's away.
_DOMAIN = b"sessionsweep.integrations.django: key of session tokens, 1"
NO_ACTIVITY_PATHS, TIME_LEFT_HEADER = "no_activity_paths", "time_left_header"
MIGRATE_FROM = "migrate_from"
OPTIONS = (NO_ACTIVITY_PATHS, TIME_LEFT_HEADER, MIGRATE_FROM)  # of `SESSIONSWEEP` that no setting is
HOLD = 900.0  # s, at most: see docs/decisions/0012-django-ages.md


@dataclass(frozen=True)
class Configured:
    """Both faces of one deployment, and the thread that sweeps where no worker does."""

    sessions: Sessions
    async_sessions: AsyncSessions
    sweeper: InProcessSweeper | None = None

    @classmethod
    def of(cls, settings: Settings) -> Configured:
        """Cheap: nothing connects before use."""
        sessions = Sessions(settings)
        sweeper = None
        if settings.sweeper == "in-process":
            sweeper = InProcessSweeper(sessions.core, sessions.store)
            sessions.core.before_close.append(sweeper.stop)
        return cls(sessions, AsyncSessions(settings), sweeper)


_lock = threading.Lock()
_current: Configured | None = None


def current() -> Configured:
    """This process's deployment.

    Raises:
        ConfigurationError: a setting is impossible; names the variable and the fix.
    """
    global _current
    here = _current
    if here is None:
        with _lock:
            here = _current = _current or Configured.of(settings())
    if here.sweeper is not None:
        here.sweeper.ensure()  # with a use, not at import: a server may fork, and its children keep no thread
    return here


def sessions() -> Sessions:
    """The project's `Sessions`: to list, end, track or attach to any of them."""
    return current().sessions


def async_sessions() -> AsyncSessions:
    """The same, awaited."""
    return current().async_sessions


@contextmanager
def using(sessions: Sessions, async_sessions: AsyncSessions) -> Iterator[None]:
    """In a test: every request inside the block meets these in the place of the project's own. Closes neither."""
    global _current
    with _lock:
        before, _current = _current, Configured(sessions, async_sessions)
    try:
        yield
    finally:
        with _lock:
            _current = before


def settings() -> Settings:
    """`SESSIONSWEEP = {…}` of Django's settings over the environment's variables, then Django's own ages and key.

    Raises:
        ConfigurationError
    """
    values = given()
    old_engine()
    if not _has_key(values):
        values["secret_key"] = derived_keys()
    age = django_settings.SESSION_COOKIE_AGE
    return Settings(**values).with_framework_defaults(idle_timeout=age, max_duration=0, hold=min(age, HOLD))


def no_activity_paths() -> PathPatterns:
    """`NO_ACTIVITY_PATHS` of `SESSIONSWEEP`. Raises ConfigurationError."""
    listed = _said().get(NO_ACTIVITY_PATHS) or ()
    return _patterns((listed,) if isinstance(listed, str) else tuple(listed))


def time_left_header() -> str | None:
    """`TIME_LEFT_HEADER` of `SESSIONSWEEP`: the header that tells each response's reader; None: none does."""
    return _said().get(TIME_LEFT_HEADER) or None


def old_engine() -> type[SessionBase] | None:
    """The `SessionStore` of `MIGRATE_FROM`, the engine that the project used before; None: none is named.

    Raises:
        ConfigurationError: it names no engine.
    """
    name = _said().get(MIGRATE_FROM)
    return engine_of(name) if name else None


def given() -> dict[str, Any]:
    """The settings that the project's `SESSIONSWEEP` names. Raises ConfigurationError: it is no dict, or misspelt."""
    named = {name: value for name, value in _said().items() if name not in OPTIONS}
    for name in named:
        if name not in Settings.model_fields:
            raise ConfigurationError(f"SESSIONSWEEP: {name.upper()} is not a setting; {_nearest(name)}")
    return named


def _nearest(name: str) -> str:
    bare = name.removeprefix(PREFIX.lower())
    matches = get_close_matches(bare, [*Settings.model_fields, *OPTIONS], n=1)
    if not matches:
        return "remove it; `manage.py sessionsweep config show` lists all settings"
    found = matches[0].upper()
    return f"did you mean {found}?" if bare == name else f"names have no {PREFIX} here: write {found}"


def _said() -> dict[str, Any]:
    said = getattr(django_settings, "SESSIONSWEEP", {})
    if not isinstance(said, Mapping):
        raise ConfigurationError(f'SESSIONSWEEP is a {type(said).__name__}; write SESSIONSWEEP = {{"REDIS_URL": …}}')
    return {str(name).lower(): value for name, value in said.items() if value is not None}


def derived_keys() -> list[str]:
    """Keys made of Django's SECRET_KEY and SECRET_KEY_FALLBACKS, the first signs; for a project that gives us none."""
    own = dict.fromkeys([django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS])
    return [hmac.digest(force_bytes(key), _DOMAIN, "sha256").hex() for key in own]


def environment() -> dict[str, str]:
    """The same settings as variables, for the command line, which reads no other."""
    made, values = settings(), given()
    for name in ("idle_timeout", "max_duration", "hold"):
        values[name] = getattr(made, name)
    values.pop("secret_key_file", None)
    values["secret_key"] = [key.decode() for key in made.signing_keys]
    return {PREFIX + name.upper(): _text(value) for name, value in values.items()}


@cache
def engine_of(name: str) -> type[SessionBase]:
    """The `SessionStore` of an engine. Raises ConfigurationError: there is none of that name."""
    try:
        found = import_module(name).SessionStore
    except (ImportError, AttributeError, TypeError) as error:
        raise ConfigurationError(
            f"SESSIONSWEEP MIGRATE_FROM: {name!r} is no session engine ({error}); give what SESSION_ENGINE was before"
        ) from None
    return cast("type[SessionBase]", found)


@cache
def _patterns(listed: tuple[str, ...]) -> PathPatterns:
    return PathPatterns(listed, "SESSIONSWEEP NO_ACTIVITY_PATHS")


def _has_key(values: Mapping[str, Any]) -> bool:
    names = ("secret_key", "secret_key_file")
    return any(values.get(name) or os.environ.get(PREFIX + name.upper()) for name in names)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _forget(*, setting: str, **_: Any) -> None:
    """`override_settings` of a test: the next use reads the settings again."""
    global _current
    if setting in ("SESSIONSWEEP", "SECRET_KEY", "SECRET_KEY_FALLBACKS") and _current is not None:
        with _lock:
            gone, _current = _current, None
        if gone is not None:
            gone.sessions.close()


setting_changed.connect(_forget, dispatch_uid="sessionsweep.integrations.django.configured")
