"""System checks: settings that are impossible, and those that are possible and surprise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Info, Warning
from django.utils.module_loading import import_string

from sessionsweep.errors import ConfigurationError
from sessionsweep.integrations.django import configured, data
from sessionsweep.settings import Settings

ENGINE = "sessionsweep.integrations.django"
MIDDLEWARE = f"{ENGINE}.middleware.SessionMiddleware"
DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"
CACHE = "django.middleware.cache.UpdateCacheMiddleware"
HOST, SECURE = "__Host-", "__Secure-"  # what browsers demand of cookies whose names begin so: RFC 6265bis, 4.1.3


def check_settings(app_configs: Any = None, **options: Any) -> list[CheckMessage]:
    """What `manage.py check` says."""
    try:
        settings = configured.settings()
        configured.no_activity_paths()
    except ConfigurationError as error:
        return [Error(str(error), id="sessionsweep.E001")]
    if django_settings.SESSION_ENGINE != ENGINE:
        return []
    return [*_data(), *_ages(settings), *_middleware(settings), *_name()]


def check_deployment(app_configs: Any = None, **options: Any) -> list[CheckMessage]:
    """What `manage.py check --deploy` says besides."""
    try:
        settings = configured.settings()
    except ConfigurationError:
        return []  # said already
    cookie = _cookie() if django_settings.SESSION_ENGINE == ENGINE else ()
    return [*_server(settings), *cookie]


def _server(settings: Settings) -> Iterator[CheckMessage]:
    if settings.in_memory:
        hint = "Set REDIS_URL in SESSIONSWEEP, or SESSIONSWEEP_REDIS_URL, to a server's URL."
        yield Warning("Sessions are kept in each process's own memory.", hint, id="sessionsweep.W005")
    elif not settings.is_explicit("redis_url"):
        hint = "Set REDIS_URL in SESSIONSWEEP, or SESSIONSWEEP_REDIS_URL."
        said = f"SESSIONSWEEP_REDIS_URL is not set; {settings.redis_url} is used."
        yield Warning(said, hint, id="sessionsweep.W006")


def _cookie() -> Iterator[CheckMessage]:
    """What the cookie lacks of OWASP ASVS 5.0, 3.3.1 to 3.3.4."""
    said = django_settings
    # Django's security.W010 to W015 know its own app and middleware only; with them it speaks for itself
    silent = "django.contrib.sessions" not in said.INSTALLED_APPS and DJANGOS not in said.MIDDLEWARE
    if silent and said.SESSION_COOKIE_SECURE is not True:
        yield Warning(
            "SESSION_COOKIE_SECURE is not True: the session's cookie travels over plain HTTP, too.",
            "Set SESSION_COOKIE_SECURE = True.",
            id="sessionsweep.W007",
        )
    if silent and said.SESSION_COOKIE_HTTPONLY is not True:
        yield Warning(
            "SESSION_COOKIE_HTTPONLY is not True: any script in a page can read the session's token.",
            "Set SESSION_COOKIE_HTTPONLY = True.",
            id="sessionsweep.W008",
        )
    if str(said.SESSION_COOKIE_SAMESITE).lower() not in ("lax", "strict"):
        yield Warning(
            f"SESSION_COOKIE_SAMESITE is {said.SESSION_COOKIE_SAMESITE!r}: other sites' requests bring the cookie.",
            'Set SESSION_COOKIE_SAMESITE = "Lax", or "Strict".',
            id="sessionsweep.W009",
        )
    if _prefix() != HOST and _allows(HOST):
        name = said.SESSION_COOKIE_NAME
        yield Info(
            f"The session's cookie {name} could be set by another host of the domain.",
            f'Set SESSION_COOKIE_NAME = "{HOST}{name.removeprefix(SECURE)}": browsers take it from this host alone, '
            "by TLS. A new name logs everybody out once.",
            id="sessionsweep.I001",
        )


def _name() -> Iterator[CheckMessage]:
    prefix = _prefix()
    if prefix and not _allows(prefix):
        and_more = ', SESSION_COOKIE_PATH = "/", SESSION_COOKIE_DOMAIN = None' if prefix == HOST else ""
        yield Error(
            f"Browsers refuse the cookie {django_settings.SESSION_COOKIE_NAME}: no session would last a request.",
            f"Set SESSION_COOKIE_SECURE = True{and_more}, or take another SESSION_COOKIE_NAME.",
            id="sessionsweep.E005",
        )


def _prefix() -> str:
    """The prefix that the cookie's name begins with, in any case; empty: none."""
    name = django_settings.SESSION_COOKIE_NAME.lower()
    return next((prefix for prefix in (HOST, SECURE) if name.startswith(prefix.lower())), "")


def _allows(prefix: str) -> bool:
    """Whether the cookie's attributes are what browsers demand under this prefix."""
    said = django_settings
    alone = said.SESSION_COOKIE_PATH == "/" and not said.SESSION_COOKIE_DOMAIN
    return bool(said.SESSION_COOKIE_SECURE) and (alone or prefix == SECURE)


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
