"""Settings: nothing but what the page needs. The environment names the server and the disk."""

from __future__ import annotations

import os
from pathlib import Path

from django.core.management.utils import get_random_secret_key

HERE = Path(__file__).parent

DEBUG = False
# Several processes need the same key; one makes its own, and its sessions end with it.
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or get_random_secret_key()
ALLOWED_HOSTS = os.environ.get("DJANGO_ALLOWED_HOSTS", "localhost,127.0.0.1").split(",")
ROOT_URLCONF = "django_photos.urls"
INSTALLED_APPS = ["sessionsweep.integrations.django"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "sessionsweep.integrations.django.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [HERE / "templates"]}]
SESSION_ENGINE = "sessionsweep.integrations.django"
SESSION_COOKIE_AGE = 900
SESSION_SAVE_EVERY_REQUEST = True  # a visit lasts as long as somebody looks at it
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = bool(os.environ.get("DJANGO_HTTPS"))
SESSIONSWEEP = {"MAX_RESOURCES_PER_SESSION": 30, "MAX_BYTES_PER_SESSION": "100MB"}
USE_TZ = True
