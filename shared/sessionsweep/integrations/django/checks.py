"""System checks: settings that are impossible, and those that are possible and surprise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning
from django.utils.module_loading import import_string

from sessionsweep.errors import ConfigurationError
from sessionsweep.integrations.django import configured, data
from sessionsweep.settings import Settings

ENGINE = "sessionsweep.integrations.django"
MIDDLEWARE = f"{ENGINE}.middleware.SessionMiddleware"
DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"
CACHE = "django.middleware.cache.UpdateCacheMiddleware"


def check_settings(app_configs: Any = None, **options: Any) -> list[CheckMessage]:
    """What `manage.py check` says."""
    try:
        settings = configured.settings()
        configured.no_activity_paths()
    except ConfigurationError as error:
        return [Error(str(error), id="sessionsweep.E001")]
    if django_settings.SESSION_ENGINE != ENGINE:
        return []
    return [*_data(), *_ages(settings), *_middleware(settings)]


def check_deployment(app_configs: Any = None, **options: Any) -> list[CheckMessage]:
    """What `manage.py check --deploy` says besides."""
    try:
        settings = configured.settings()
    except ConfigurationError:
        return []  # said already
    if settings.in_memory:
        hint = "Set REDIS_URL in SESSIONSWEEP, or SESSIONSWEEP_REDIS_URL, to a server's URL."
        return [Warning("Sessions are kept in each process's own memory.", hint, id="sessionsweep.W005")]
    if not settings.is_explicit("redis_url"):
        hint = "Set REDIS_URL in SESSIONSWEEP, or SESSIONSWEEP_REDIS_URL."
        said = f"SESSIONSWEEP_REDIS_URL is not set; {settings.redis_url} is used."
        return [Warning(said, hint, id="sessionsweep.W006")]
    return []


def _data() -> Iterator[CheckMessage]:
    name = django_settings.SESSION_SERIALIZER
    try:
        data.encoded(import_string(name)(), {"key": {"list": [1, "text", None]}})
    except Exception as error:
        # a serializer of the project's may raise anything
        hint = 'Use "django.contrib.sessions.serializers.JSONSerializer", or one that writes JSON.'
        yield Error(f"SESSION_SERIALIZER {name} can't be used: {error}", hint, id="sessionsweep.E002")


def _ages(settings: Settings) -> Iterator[CheckMessage]:
    age = django_settings.SESSION_COOKIE_AGE
    if settings.max_duration and settings.max_duration < age:
        yield Warning(
            f"Sessions end after MAX_DURATION ({settings.max_duration:g} s), their cookies after SESSION_COOKIE_AGE "
            f"({age} s).",
            "Lower SESSION_COOKIE_AGE, or raise or remove SESSIONSWEEP_MAX_DURATION.",
            id="sessionsweep.W001",
        )
    if settings.is_explicit("idle_timeout") and settings.idle_timeout != age:
        yield Warning(
            f"IDLE_TIMEOUT ({settings.idle_timeout:g} s) has no effect on Django's sessions: SESSION_COOKIE_AGE "
            f"({age} s) and set_expiry have.",
            "Set SESSION_COOKIE_AGE instead, with SESSION_SAVE_EVERY_REQUEST = True if every request is to count.",
            id="sessionsweep.W002",
        )


def _middleware(settings: Settings) -> Iterator[CheckMessage]:
    order = list(django_settings.MIDDLEWARE)
    ours = [name for name in order if name in (MIDDLEWARE, DJANGOS) or _is_session_middleware(name)]
    if settings.client_binding in ("subnet", "strict") and not any(_is_session_middleware(name) for name in ours):
        yield Error(
            f"CLIENT_BINDING={settings.client_binding} has no effect: {DJANGOS} tells no session who the client is.",
            f"Put {MIDDLEWARE} in its place.",
            id="sessionsweep.E003",
        )
    if len(ours) > 1:
        yield Error(
            f"MIDDLEWARE has {len(ours)} session middlewares: {', '.join(ours)}.",
            "Keep one; ours stands in the place of Django's.",
            id="sessionsweep.E004",
        )
    if ours and CACHE in order and order.index(CACHE) > order.index(ours[0]):
        yield Warning(
            f"{CACHE} stands after {ours[0]}: it caches pages before they say `Vary: Cookie`, and may hand one "
            "visitor's page to another.",
            "Put UpdateCacheMiddleware first, as Django's documentation of MIDDLEWARE orders them.",
            id="sessionsweep.W003",
        )


def _is_session_middleware(name: str) -> bool:
    """Whether it is ours or a subclass of it."""
    from sessionsweep.integrations.django.middleware import SessionMiddleware

    try:
        found = import_string(name)
    except ImportError:
        return False  # Django says so itself
    return isinstance(found, type) and issubclass(found, SessionMiddleware)
