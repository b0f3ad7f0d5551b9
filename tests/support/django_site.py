"""A Django project for tests: one database file for the process, one set of settings that a test overrides."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from typing import Any

KEY = "django-insecure-test-key-" + "d" * 40
ENGINE = "sessionsweep.integrations.django"
MIDDLEWARE = f"{ENGINE}.middleware.SessionMiddleware"


def ready(**more: Any) -> None:
    """Configures Django once for this process and makes its tables; harmless again."""
    from django.conf import settings

    if settings.configured:
        return
    folder = tempfile.mkdtemp(prefix="sessionsweep-django-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    settings.configure(
        SECRET_KEY=KEY,
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{folder}/db.sqlite3"}},
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", ENGINE],
        MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
        SESSION_ENGINE=ENGINE,
        SESSIONSWEEP={"REDIS_URL": "memory://"},
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        USE_TZ=True,
        **more,
    )
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
