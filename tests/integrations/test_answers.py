"""What a client is told about each error of the tree: a status that fits, no name of a host, no path, no trace."""

from __future__ import annotations

import errno

import pytest

from sessionsweep import errors
from sessionsweep.integrations.answers import answer_to

SECRET = "redis://user:pw@10.1.2.3/ at /srv/files"
CASES: list[tuple[errors.SessionSweepError, int]] = [
    (errors.InvalidTokenError(), 401),
    (errors.SessionEndedError("idle", "00abc"), 401),
    (errors.ClientMismatchError(SECRET), 401),
    (errors.LimitReachedError("MAX_RESOURCES_PER_SESSION", 100), 429),
    (errors.LimitReachedError("MAX_SESSIONS_PER_USER", 3), 429),
    (errors.LimitReachedError("MAX_BYTES_PER_USER", 3), 413),
    (errors.LimitReachedError("MAX_SESSIONS", 3), 503),
    (errors.ResourceTooLargeError("MAX_BYTES_PER_SESSION", 3, SECRET), 413),
    (errors.ResourceNotFoundError("x"), 404),
    (errors.VolumeNotHereError("v", ["a"]), 421),
    (errors.VolumeNotHereError("v"), 503),
    (errors.VolumeUntrustedError("marker-missing", SECRET), 503),
    (errors.VolumeIOError(errno.EIO, SECRET), 503),
    (errors.VolumeIOError(errno.ENOSPC, SECRET), 507),
    (errors.VolumeError(SECRET), 503),
    (errors.HeldError(SECRET), 503),
    (errors.StoreUnavailableError(SECRET), 503),
    (errors.StoreFullError(SECRET), 503),
    (errors.OutcomeUnknownError(SECRET), 503),
    (errors.RecordUnreadableError(SECRET), 503),
    (errors.StoreError(SECRET), 503),
]


@pytest.mark.parametrize(("error", "status"), CASES, ids=lambda value: getattr(type(value), "__name__", str(value)))
def test_each_error_has_its_status(error: errors.SessionSweepError, status: int) -> None:
    answer = answer_to(error)
    assert answer is not None
    assert answer.status == status
    assert not {"pw", "10.1.2.3", "/srv"} & set(str(answer.body).replace("@", " ").replace(":", " ").split())
    assert SECRET not in str(answer.body)
    assert ("Retry-After" in answer.headers) == (status == 503)


def test_the_nodes_that_have_the_file_are_named() -> None:
    answer = answer_to(errors.VolumeNotHereError("v", ["a", "b"]))
    assert answer is not None
    assert answer.body["nodes"] == ["a", "b"]


def test_a_fault_of_the_app_is_not_the_clients() -> None:
    assert answer_to(errors.ConfigurationError("x")) is None


def test_every_error_of_the_tree_is_tried_here() -> None:
    tried = {type(error) for error, _ in CASES} | {errors.ConfigurationError, errors.SessionSweepError}
    known = {e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.SessionSweepError)}
    assert known == tried
