"""`manage.py sessionsweep …`: the command line, with this project's settings."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from sessionsweep.errors import ConfigurationError
from sessionsweep.integrations.django.configured import environment


class Command(BaseCommand):  # type: ignore[misc]
    """Hands everything on: `manage.py sessionsweep sessions list --json`."""

    help = "Sessions, and everything a session leaves behind: `manage.py sessionsweep sessions list`, `… stats`."
    requires_system_checks: list[str] = []  # noqa: RUF012 (Django's) - it must run where a check fails, to say what is wrong

    def run_from_argv(self, argv: list[str]) -> None:
        """Our own options are not Django's to read: `--json`, `--user`."""
        if argv[2:] in (["--help"], ["-h"]):
            super().run_from_argv(argv)
            return
        try:
            self.handle(arguments=argv[2:])
        except CommandError as error:
            self.stderr.write(f"{error}")
            sys.exit(error.returncode)

    def add_arguments(self, parser: CommandParser) -> None:
        """For `call_command`."""
        parser.add_argument("arguments", nargs=argparse.REMAINDER, help="as for `sessionsweep`")

    def handle(self, *args: Any, arguments: list[str], **options: Any) -> None:
        """Runs it. Exit status: 0 done, 1 failed, 2 wrong usage."""
        try:
            from sessionsweep.cli.app import app
        except ImportError as error:
            raise CommandError(f"{error.name} isn't installed: pip install 'sessionsweep[cli]'") from error
        try:
            os.environ.update(environment())
        except ConfigurationError as error:
            raise CommandError(str(error)) from None
        try:
            app(arguments, prog_name="manage.py sessionsweep")
        except SystemExit as done:
            if done.code:
                raise CommandError("it failed", returncode=int(done.code)) from None
