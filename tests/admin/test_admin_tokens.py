"""The setting that holds admin tokens: scopes, ends, hashes, and errors that repeat no token."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from sessionsweep import ConfigurationError, Settings
from sessionsweep.admin import create_admin
from sessionsweep.admin.access import (
    WRONG_A_MINUTE,
    AccessError,
    Doorkeeper,
    Grant,
    Scope,
    TooManyWrongTokensError,
    digest,
    parse_grants,
)
from support.nodes import KEY, Node


def test_a_single_token_may_write() -> None:
    assert parse_grants("s3cret") == (Grant(digest("s3cret"), Scope.WRITE),)


def test_scopes_ends_hashes_and_comments() -> None:
    text = f"""
    # the dashboard
    read one 2030-01-31, write two

    read sha256:{hashlib.sha256(b"three").hexdigest()} 2030-01-31T12:00:00+02:00
    """
    assert parse_grants(text) == (
        Grant(digest("one"), Scope.READ, datetime(2030, 1, 31, tzinfo=UTC)),
        Grant(digest("two"), Scope.WRITE),
        Grant(digest("three"), Scope.READ, datetime(2030, 1, 31, 10, tzinfo=UTC)),
    )


@pytest.mark.parametrize("text", ["read secret-one soon", "secret-one a b", "sha256:secret-one", ",", "# secret-one"])
def test_what_is_no_token_is_said_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigurationError, match="SESSIONSWEEP_ADMIN_TOKEN") as raised:
        parse_grants(text)
    assert "secret-one" not in str(raised.value)


@pytest.mark.parametrize("text", ["read", "write", "read 2030-01-31", "2030-01-31T12:00:00Z", "write one, read "])
def test_a_scope_whose_variable_is_empty_is_no_token(text: str) -> None:
    with pytest.raises(ConfigurationError, match="has no token"):
        parse_grants(text)


@pytest.mark.parametrize(
    ("guessing", "neighbour", "stranger"),
    [("2001:db8:0:1::{}", "2001:db8:0:1:ffff::1", "2001:db8:0:2::1"), ("192.0.2.7", "192.0.2.7", "192.0.2.8")],
)
def test_wrong_tokens_are_counted_for_whoever_has_the_addresses(guessing: str, neighbour: str, stranger: str) -> None:
    door = Doorkeeper(Settings(redis_url="memory://", admin_token="right", secret_key=KEY))
    for number in range(1, WRONG_A_MINUTE + 1):
        with pytest.raises(AccessError):
            door.check("wrong", guessing.format(number), Scope.READ)
    with pytest.raises(TooManyWrongTokensError):
        door.check("wrong", neighbour, Scope.READ)
    assert door.check("right", stranger, Scope.WRITE).scope is Scope.WRITE


def test_without_a_token_it_does_not_start(make_node: Callable[..., Node]) -> None:
    with pytest.raises(ConfigurationError, match="SESSIONSWEEP_ADMIN_TOKEN is not set"):
        create_admin(sessions=make_node().sessions)


def test_another_process_memory_is_refused() -> None:
    settings = Settings(redis_url="memory://", admin_token="x" * 20, secret_key=KEY)
    with pytest.raises(ConfigurationError, match="memory://"):
        create_admin(settings)
