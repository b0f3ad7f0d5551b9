"""Sessions in Django: `SESSION_ENGINE = "sessionsweep.integrations.django"`, and `request.session.resources`.

The cookie holds the token. Reading makes no session and renews none; saving renews. How long a session lasts is what
Django's settings and `set_expiry` say. In `INSTALLED_APPS` the same name adds the system checks and `manage.py
sessionsweep`; in `MIDDLEWARE`, `sessionsweep.integrations.django.middleware.SessionMiddleware` in Django's place adds
the client's address and answers to our errors.
"""

from __future__ import annotations

from sessionsweep.integrations.django.configured import async_sessions, sessions, settings
from sessionsweep.integrations.django.resources import Resources
from sessionsweep.integrations.django.store import SessionStore

__all__ = ["Resources", "SessionStore", "async_sessions", "sessions", "settings"]
