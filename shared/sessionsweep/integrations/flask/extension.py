"""The extension: binds an app to a deployment."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from flask import Flask, current_app, jsonify
from flask.sessions import SessionInterface
from flask.typing import ResponseReturnValue

from sessionsweep.engine.inprocess import InProcessSweeper
from sessionsweep.errors import ConfigurationError, SessionSweepError
from sessionsweep.integrations.answers import answer_to
from sessionsweep.integrations.flask.commands import COMMANDS
from sessionsweep.integrations.flask.configured import Options, settings_of
from sessionsweep.integrations.flask.interface import EXTENSION, StoreSessionInterface, binding
from sessionsweep.integrations.flask.migration import OldInterface, UserOf
from sessionsweep.sessions.sync import Sessions
from sessionsweep.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Binding:
    """What one app holds: its `Sessions`, made once and shared by all its threads, and its options."""

    sessions: Sessions
    options: Options
    old: OldInterface | None = None  # whose sessions are taken over


class SessionSweep:
    """The extension: `SessionSweep(app)`, or `SessionSweep()` and later `init_app(app)` for each app.

    Args:
        app: the app to bind.
        settings: the deployment's settings. Where None: the app's `SESSIONSWEEP_…` configuration values, over
            the environment's variables of the same names. Below both, the names of the Talk2Me document
            (`MAX_SESSION_DURATION`, …), from the app's configuration or the environment.
        sessions: the `Sessions` to use instead of new ones, to share them with code outside of requests.
        migrate_from: the `SessionInterface` that the app used before. A cookie of its kind becomes a session of ours,
            once, and the old record is deleted.
        migrate_user: who is logged in, by the old data; the session taken over is that user's.

    The cookie is Flask's own: `SESSION_COOKIE_NAME`, `_SECURE`, `_PATH`, `_DOMAIN`, `_SAMESITE` (`Lax` where not set),
    `_PARTITIONED`; it is always HttpOnly (ASVS 3.3.4). A permanent session lasts for PERMANENT_SESSION_LIFETIME, any
    other for as long as the settings say, in a cookie that goes with the browser.

    Raises:
        ConfigurationError: a setting is missing or impossible.
    """

    def __init__(
        self,
        app: Flask | None = None,
        settings: Settings | None = None,
        *,
        sessions: Sessions | None = None,
        migrate_from: SessionInterface | None = None,
        migrate_user: UserOf | None = None,
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._old = None if migrate_from is None else OldInterface(migrate_from, migrate_user)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Binds an app. Nothing connects here, so a server may fork afterwards."""
        if EXTENSION in app.extensions:
            raise ConfigurationError(f"{app.name} has SessionSweep already; call init_app once for each app")
        options = Options.of(app)
        sessions = self._sessions or Sessions(settings_of(app, self._settings))
        app.extensions[EXTENSION] = Binding(sessions, options, self._old)
        app.session_interface = StoreSessionInterface()
        if sessions.settings.sweeper == "in-process":
            # With a request, not here: a server may fork after this, and its children keep no thread.
            sweeper = InProcessSweeper(sessions.core, sessions.store)
            sessions.core.before_close.append(sweeper.stop)
            app.before_request(sweeper.ensure)
        # The app's own handler wins, whichever of the two is registered first.
        app.error_handler_spec[None][None].setdefault(SessionSweepError, _answer)
        for command in COMMANDS:
            app.cli.add_command(command)

    @property
    def sessions(self) -> Sessions:
        """The current app's sessions: to list, end or attach to any of them."""
        return binding(current_app).sessions


def _answer(error: SessionSweepError) -> ResponseReturnValue:
    found = answer_to(error)
    if found is None:
        raise error
    if found.status >= 500:
        log.error("%s: %s", type(error).__name__, error)
    return jsonify(found.body), found.status, dict(found.headers)
