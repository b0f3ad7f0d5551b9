"""The setting that holds admin tokens: scopes, ends, hashes, and errors that repeat no token."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from sessionsweep import ConfigurationError, Settings
from sessionsweep.admin import create_admin
from sessionsweep.admin.access import Grant, Scope, digest, parse_grants
from support.nodes import KEY, Node


def test_a_single_token_may_write() -> None:
    assert parse_grants("s3cret") == (Grant(digest("s3cret"), Scope.WRITE),)


def test_scopes_ends_hashes_and_comments() -> None:
    text = f"""
    # the dashboard
    read one 2030-01-31, write two

    read sha256:{hashlib.sha256(b"three").hexdigest()} 2030-01-31T12:00:00+02:00
    read
    """
    assert parse_grants(text) == (
        Grant(digest("one"), Scope.READ, datetime(2030, 1, 31, tzinfo=UTC)),
        Grant(digest("two"), Scope.WRITE),
        Grant(digest("three"), Scope.READ, datetime(2030, 1, 31, 10, tzinfo=UTC)),
        Grant(digest("read"), Scope.WRITE),
    )


@pytest.mark.parametrize("text", ["read secret-one soon", "secret-one a b", "sha256:secret-one", ",", "# secret-one"])
def test_what_is_no_token_is_said_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigurationError, match="SESSIONSWEEP_ADMIN_TOKEN") as raised:
        parse_grants(text)
    assert "secret-one" not in str(raised.value)


def test_without_a_token_it_does_not_start(make_node: Callable[..., Node]) -> None:
    with pytest.raises(ConfigurationError, match="SESSIONSWEEP_ADMIN_TOKEN is not set"):
        create_admin(sessions=make_node().sessions)


def test_another_process_memory_is_refused() -> None:
    settings = Settings(redis_url="memory://", admin_token="x" * 20, secret_key=KEY)
    with pytest.raises(ConfigurationError, match="memory://"):
        create_admin(settings)
