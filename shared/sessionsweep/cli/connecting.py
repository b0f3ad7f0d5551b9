"""From the environment to a connected deployment, for the time of one command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sessionsweep.cli.output import note
from sessionsweep.errors import ConfigurationError
from sessionsweep.operator.reached import Deployment
from sessionsweep.operator.volumes import knows_none
from sessionsweep.sessions.sync import Sessions
from sessionsweep.settings import Settings


def warn_if_forgetful(here: Deployment) -> None:
    """Says so where the store looks as if it had been emptied: all counts would read as if all were well."""
    if here.run(knows_none()):
        note(
            "This Redis has never seen a volume made or adopted: it is new, was emptied (FLUSHALL), or the wrong one. "
            "What only nodes mount whose worker is silent can't be listed. See: sessionsweep holds list"
        )


@contextmanager
def deployment() -> Iterator[Deployment]:
    """The deployment of the environment.

    Raises:
        ConfigurationError: a setting is impossible, or the store is the memory of another process.
    """
    settings = Settings.from_env()
    if settings.in_memory:
        raise ConfigurationError(
            "SESSIONSWEEP_REDIS_URL=memory:// is each process's own memory: this command would see an empty one, not "
            "the app's, whose own thread sweeps it. Give a server's URL to use the command line."
        )
    sessions = Sessions(settings)
    try:
        yield Deployment(sessions)
    finally:
        sessions.close()
