"""Refuses what another site makes a visitor's browser send (ASVS 3.5.1), without tokens in forms."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Request

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def is_foreign(request: Request) -> bool:
    """Whether a browser sent this request on behalf of another origin.

    Browsers say so themselves: in `Sec-Fetch-Site`, or, where the page isn't secure or the browser is old, in
    `Origin`, which no script can forge. `SameSite=Lax` alone is not enough: a site is all ports and subdomains of a
    host, so another app on this machine is the same site. A request with neither field comes from no browser, and a
    program has no visitor's cookie to abuse. (The reasoning and the order are those of Go's
    `http.CrossOriginProtection`.)
    """
    if request.method in SAFE:
        return False
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")  # none: the visitor's own doing, such as a bookmark
    origin = request.headers.get("Origin")
    # The host is compared, not the scheme: behind a proxy that speaks TLS the app sees http.
    try:
        return origin is not None and urlsplit(origin).netloc != request.host
    except ValueError:  # no address, so not ours
        return True
