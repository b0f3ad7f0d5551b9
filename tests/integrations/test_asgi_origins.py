"""Which pages may use a session in a WebSocket: the request's own origin and the listed ones (ASVS 4.4.2)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from sessionsweep import ConfigurationError, Sessions, Settings
from sessionsweep.integrations.asgi import SessionSweepMiddleware, current_session
from sessionsweep.integrations.origins import Origins, Sender
from support.nodes import KEY
from support.serving import serving


@pytest.mark.parametrize(
    ("origin", "host", "secure", "allowed"),
    [
        ("https://shop.example", "shop.example", True, True),
        ("https://SHOP.example", "shop.example:443", True, True),
        ("http://localhost:8000", "localhost:8000", False, True),
        ("http://[::1]:8000", "[::1]:8000", False, True),
        ("https://shop.example", "shop.example", False, True),  # behind a proxy that nobody listed
        ("http://shop.example", "shop.example", True, False),  # a page in plain text
        ("https://evil.example", "shop.example", True, False),
        ("https://a.shop.example", "shop.example", True, False),
        ("https://shop.example.evil.example", "shop.example", True, False),
        ("https://evil.example/shop.example", "shop.example", True, False),
        ("https://shop.example@evil.example", "shop.example", True, False),
        ("https://evil.example@shop.example", "shop.example", True, False),
        ("https://shop.example:8443", "shop.example", True, False),
        ("http://localhost:3000", "localhost:8000", False, False),
        ("https://shop.example:x", "shop.example", True, False),
        ("null", "shop.example", True, False),
        ("", "shop.example", True, False),
        ("file://", "", True, False),
        ("https://", "", True, False),
        ("https://shop.example https://evil.example", "shop.example", True, False),
        ("https://app.example", "shop.example", True, True),
        ("http://app.example", "shop.example", True, False),
        (None, "shop.example", True, True),
    ],
)
def test_own_and_listed_origins_only(origin: str | None, host: str, secure: bool, allowed: bool) -> None:
    sender = Sender([] if origin is None else [origin], "", host, secure)
    assert Origins(["https://app.example"]).allow(sender) is allowed


def test_two_origins_or_two_hosts_are_nobodys() -> None:
    own, evil = "https://shop.example", "https://evil.example"
    assert not Origins().allow(Sender([own, evil], "", "shop.example", secure=True))
    assert not Origins().allow(Sender([evil], "", "shop.example,evil.example", secure=True))


@pytest.mark.parametrize(
    ("site", "origin", "allowed"),
    [
        ("same-origin", "https://evil.example", True),  # a browser's word; its proxy has changed the host
        ("none", None, True),
        ("same-site", None, False),
        ("cross-site", None, False),
        ("same-site", "https://shop.example", False),  # http://shop.example on its way through a proxy that speaks TLS
        ("cross-site", "https://app.example", True),
        ("same-origin,cross-site", None, False),
    ],
)
def test_what_the_browser_says_of_the_site_counts_without_an_origin_too(
    site: str, origin: str | None, allowed: bool
) -> None:
    sender = Sender([] if origin is None else [origin], site, "shop.example", True)
    assert Origins(["https://app.example"]).allow(sender) is allowed


@pytest.mark.parametrize("listed", ["https://app.example", ["app.example"], ["https://app.example/"], ["https://"]])
def test_what_is_no_origin_is_said_at_the_start(listed: Any) -> None:
    with pytest.raises(ConfigurationError, match="allowed_origins"):
        Origins(listed)


@pytest.fixture
def settings(redis_url: str, namespace: str) -> Settings:
    return Settings(redis_url=redis_url, namespace=namespace, secret_key=KEY, node="a")


@pytest.fixture
def token(settings: Settings) -> Iterator[str]:
    sessions = Sessions(settings)
    yield sessions.create()[1]
    sessions.close()


async def _private(websocket: WebSocket) -> None:
    async with current_session(websocket).websocket(websocket):
        await websocket.accept()
        await websocket.send_text("in")


async def _public(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(repr(bool(current_session(websocket))))
    await websocket.close()


def _site(settings: Settings, **options: Any) -> SessionSweepMiddleware:
    routes = [WebSocketRoute("/private", _private), WebSocketRoute("/public", _public)]
    return SessionSweepMiddleware(Starlette(routes=routes), settings, **options)


async def _hears(url: str, token: str, origin: str | None, path: str = "/private") -> str:
    socket = connect(
        url.replace("http", "ws") + path,
        additional_headers={"Cookie": f"sessionsweep={token}"},
        origin=origin,  # type: ignore[arg-type]
        proxy=None,
    )
    async with socket as websocket:
        return str(await websocket.recv())


async def test_another_origins_page_has_no_session_in_a_websocket(
    settings: Settings, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with serving(_site(settings)) as url:
        assert await _hears(url, token, url) == "in"
        assert await _hears(url, token, None) == "in", "programs send none"
        for foreign in ("https://evil.example", "http://127.0.0.1:1", "null"):
            with pytest.raises(InvalidStatus) as refused:
                await _hears(url, token, foreign)
            assert refused.value.response.status_code == 401
        assert await _hears(url, token, "https://evil.example", "/public") == "False", "what needs none is open to all"
    assert "'https://evil.example'" in caplog.text
    assert token.split(".")[1] not in caplog.text


@pytest.mark.parametrize("listed", ["https://app.example", "*"])
async def test_listed_origins_have_it(settings: Settings, token: str, listed: str) -> None:
    with serving(_site(settings, allowed_origins=[listed])) as url:
        assert await _hears(url, token, "https://app.example") == "in"
