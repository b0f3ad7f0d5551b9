"""The app of INSTALLED_APPS: system checks, and the command `sessionsweep`."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks


class SessionSweepConfig(AppConfig):  # type: ignore[misc]
    """`"sessionsweep.integrations.django"` in INSTALLED_APPS."""

    name = "sessionsweep.integrations.django"
    label = "sessionsweep"
    verbose_name = "sessionsweep"

    def ready(self) -> None:
        """Registers the checks."""
        from sessionsweep.integrations.django.checks import check_deployment, check_settings

        checks.register(check_settings, checks.Tags.security)
        checks.register(check_deployment, checks.Tags.security, deploy=True)
