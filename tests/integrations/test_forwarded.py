"""The client's address: believed only from listed proxies, counted from the right."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from sessionsweep.integrations.forwarded import client_address

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
LOCAL = (ip_network("127.0.0.1"),)


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "client"),
    [
        ("203.0.113.7", "", PROXIES, "203.0.113.7"),
        ("203.0.113.7", "198.51.100.1", PROXIES, "203.0.113.7"),  # not a proxy: its header is worth nothing
        ("10.0.0.1", "198.51.100.1", None, "10.0.0.1"),  # not set: nobody is believed
        ("10.0.0.1", "198.51.100.1", (), "10.0.0.1"),  # none: clients connect directly
        ("10.0.0.1", "198.51.100.1", PROXIES, "198.51.100.1"),
        ("10.0.0.1", "8.8.8.8, 198.51.100.1", PROXIES, "198.51.100.1"),  # the left one is the client's claim
        ("10.0.0.1", "8.8.8.8, 198.51.100.1, 10.0.0.2", PROXIES, "198.51.100.1"),  # two proxies in a row
        ("10.0.0.1", "10.9.9.9,10.0.0.2", PROXIES, "10.9.9.9"),  # a client inside the proxies' network
        ("10.0.0.1", "198.51.100.1, unknown", PROXIES, "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1,", PROXIES, "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1:4711", PROXIES, "198.51.100.1"),
        ("fd00::1", "[2001:db8::7]:4711", PROXIES, "2001:db8::7"),
        ("fd00::1", "2001:db8::7", PROXIES, "2001:db8::7"),
        ("::ffff:10.0.0.1", "198.51.100.1", PROXIES, "198.51.100.1"),  # a dual-stack socket's form
        ("fe80::1%eth0", "", PROXIES, "fe80::1"),
        (None, "", LOCAL, None),  # a Unix socket: nothing is known
        ("", "198.51.100.1", LOCAL, "198.51.100.1"),  # a proxy on this machine's socket, listed
        ("", "198.51.100.1", PROXIES, None),
        ("not an address", "198.51.100.1", PROXIES, None),
    ],
)
def test_the_address_is_the_one_that_the_last_unlisted_hop_had(
    peer: str | None, forwarded: str, trusted: tuple[object, ...] | None, client: str | None
) -> None:
    assert client_address(peer, forwarded, trusted) == client  # type: ignore[arg-type]
