"""Decisions as pure functions: how wide a wheel slot is, how a failure backs off, whose client this is."""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import random

from sessionsweep.model.session import Client

NO_FINGERPRINT = (0, b"\0\0\0")


def slot_width(interval: float) -> int:
    """Width of a wheel slot in ms for a cleanup interval in seconds: a tenth of it, at least 0.1 s and at most 10 s.

    A session is looked at up to one width and one interval after it is due; a tenth keeps the first part small.
    """
    return max(100, min(10_000, round(interval * 100)))


def back_off(tries: int, interval: float, jitter: random.Random | None = None) -> int:
    """How long to wait after the `tries`-th failure, in ms: doubling from a quarter of the interval up to an hour,
    with ±25 % of jitter so that a repaired disk isn't hit by everything at once."""
    chance = (jitter or random).random()
    base = min(3600.0, max(0.5, interval / 4) * float(2 ** min(tries, 20)))
    return int(base * (0.75 + chance / 2) * 1000)


def fingerprint(client: Client, binding: str) -> tuple[int, bytes]:
    """(4 or 6, three bytes) of a client under a binding mode; (0, zeros) when it is off or the address unknown.

    `strict`: the exact address. `log` and `subnet`: IPv4 /24, IPv6 /64. With the user agent in each. It is a
    detector, not a defence: 24 bits tell a change, and identify nobody.
    """
    if binding == "off" or client.ip is None:
        return NO_FINGERPRINT
    return _fingerprint(client.ip, client.user_agent or "", binding == "strict")


@functools.lru_cache(maxsize=4096)
def _fingerprint(ip: str, agent: str, exact: bool) -> tuple[int, bytes]:
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return NO_FINGERPRINT
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    bits = address.max_prefixlen if exact else (24 if address.version == 4 else 64)
    network = int(address) >> (address.max_prefixlen - bits)
    digest = hashlib.blake2b(f"{address.version} {network} {agent}".encode(), digest_size=3).digest()
    return address.version, digest if digest != b"\0\0\0" else b"\0\0\1"


def reservation(used: int, allowed: int, stated: int | None) -> int:
    """Bytes to reserve for a new file: what the writer states, else 256 KiB where that pushes nobody out, else none."""
    if stated is not None:
        return stated
    room = 256 * 1024
    return room if used + room <= allowed else 0


def grown(limit: int, needed: int, used: int, allowed: int) -> int:
    """The next reservation of a file that needs more: doubling saves round trips, but never at others' expense."""
    generous = max(needed, limit + min(max(limit, 256 * 1024), 8 * 1024 * 1024))
    return generous if used + generous - limit <= allowed else needed
