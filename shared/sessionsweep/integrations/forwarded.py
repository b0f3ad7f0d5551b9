"""The client's address and scheme, read from the connection and from what listed proxies added (ASVS 4.1.3, 15.3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Who sits at the other end of a Unix socket is on this machine: its proxy is listed as 127.0.0.1.
UNIX_SOCKET_PEER = ip_address("127.0.0.1")


def client_address(peer: str | None, forwarded_for: str, trusted: Sequence[Network] | None) -> str | None:
    """The client's address.

    Args:
        peer: the other end of the connection; None or empty on a Unix socket.
        forwarded_for: all X-Forwarded-For fields joined with commas, as they arrived.
        trusted: the proxies whose word counts; None (not set) and empty (`none`) mean that nobody's does.

    Each proxy appends the address that it saw, so the list is read from the right, for as long as the one who
    wrote the entry is listed. Whatever the client itself sent stands further left and is never reached.
    """
    address = _parse(peer) if peer else UNIX_SOCKET_PEER
    if address is None:
        return None
    for entry in reversed(forwarded_for.split(",") if forwarded_for else ()):
        if not _listed(address, trusted or ()):
            break
        before = _parse(entry)
        if before is None:
            break  # a listed proxy wrote `unknown`: its own address is the last that is known
        address = before
    return None if not peer and address is UNIX_SOCKET_PEER else str(address)


def client_scheme(
    scheme: str, peer: str | None, forwarded_for: str, forwarded_proto: str, trusted: Sequence[Network] | None
) -> str:
    """The scheme by which the client came: the connection's, or what the listed proxies say (`http`, `https`).

    `scheme` is the connection's own, `forwarded_proto` all X-Forwarded-Proto fields joined with commas; the rest as for
    `client_address`. A proxy either appends to the field or writes it anew, so entries count from the right, one for
    each listed proxy, and the last one left stands for all proxies before it.
    """
    address = _parse(peer) if peer else UNIX_SOCKET_PEER
    said = [entry.strip().lower() for entry in forwarded_proto.split(",") if entry.strip()]
    hops = [entry for entry in forwarded_for.split(",") if entry.strip()]
    while address is not None and said and _listed(address, trusted or ()):
        scheme = said.pop()
        address = _parse(hops.pop()) if hops else None
    return scheme


def _listed(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in trusted)


def _parse(text: str) -> Address | None:
    """An address with or without a port (`192.0.2.7:80`, `[2001:db8::7]:80`); IPv4 in IPv6 as what it is."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])  # a zone is the proxy's, not the client's
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
