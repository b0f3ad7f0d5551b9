"""Patterns and marks that say which requests don't count as activity."""

from __future__ import annotations

from functools import partial, wraps
from ipaddress import ip_network
from typing import Any

import pytest

from sessionsweep.errors import ConfigurationError
from sessionsweep.integrations.forwarded import client_scheme
from sessionsweep.integrations.paths import PathPatterns, any_marked, is_no_activity, no_activity


def test_patterns_match_whole_paths() -> None:
    quiet = PathPatterns(["/healthz", "/poll/*", "/v?/ping"])
    for path in ("/healthz", "/poll/", "/poll/a/b", "/v1/ping"):
        assert path in quiet
    for path in ("/healthz/", "/poll", "/a/poll/b", "/v10/ping", "", "/HEALTHZ", "/healthz\n"):
        assert path not in quiet
    assert "" not in PathPatterns()
    assert "/" not in PathPatterns([])


def test_one_pattern_alone_is_a_mistake_that_is_named() -> None:
    with pytest.raises(TypeError, match="list of patterns"):
        PathPatterns("/healthz")


@pytest.mark.parametrize("pattern", ["healthz", "", "?", 7])
def test_a_pattern_that_matches_no_path_is_named_with_its_setting(pattern: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"NO_ACTIVITY_PATHS.*begin it with /"):
        PathPatterns(["/poll", pattern], "NO_ACTIVITY_PATHS")


def test_a_mark_is_found_through_wrappers() -> None:
    @no_activity
    def view() -> None: ...

    @wraps(view)
    def wrapped() -> None: ...

    class Odd:
        def __init__(self) -> None:
            self.__wrapped__ = view

    assert any_marked()
    assert all(map(is_no_activity, (view, wrapped, partial(view), Odd())))
    assert not is_no_activity(lambda: None)
    assert not is_no_activity(None)


@pytest.mark.parametrize(
    ("scheme", "peer", "forwarded_for", "proto", "seen"),
    [
        ("http", "203.0.113.7", "", "https", "http"),  # not a proxy: its word is worth nothing
        ("https", "203.0.113.7", "", "http", "https"),
        ("http", "10.0.0.1", "198.51.100.1", "https", "https"),
        ("http", "10.0.0.1", "198.51.100.1", "http, https", "https"),  # the left one is the client's claim
        ("http", "10.0.0.1", "198.51.100.1, 10.0.0.2", "https, http", "https"),  # two proxies that append
        ("http", "10.0.0.1", "198.51.100.1, 10.0.0.2", "HTTPS", "https"),  # the nearer one writes it anew
        ("https", "10.0.0.1", "198.51.100.1", "", "https"),  # a proxy that says nothing
        ("http", None, "198.51.100.1", "https", "http"),  # a Unix socket whose proxy isn't listed
    ],
)
def test_the_scheme_is_what_listed_proxies_say(
    scheme: str, peer: str | None, forwarded_for: str, proto: str, seen: str
) -> None:
    assert client_scheme(scheme, peer, forwarded_for, proto, (ip_network("10.0.0.0/8"),)) == seen
