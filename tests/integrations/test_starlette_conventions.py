"""What Starlette's SessionMiddleware does, case by case as its documentation and tests have it, with ours instead."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from sessionsweep import ConfigurationError, Settings
from sessionsweep.integrations.asgi import SessionSweepMiddleware, current_session
from support.nodes import KEY

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have httpx2, which nothing else here needs
    from starlette.testclient import TestClient

MakeClient = Callable[..., TestClient]


def view(request: Request) -> JSONResponse:  # not async: Starlette runs it in a thread
    return JSONResponse(dict(request.session))


def update(request: Request) -> JSONResponse:
    request.session.update(request.query_params)
    return view(request)


async def clear(request: Request) -> JSONResponse:
    request.session.clear()
    return view(request)


async def greet(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_json(dict(websocket.session))
    websocket.session["heard"] = await websocket.receive_text()
    if websocket.query_params:
        await current_session(websocket).save()
    await websocket.close()


ROUTES = [
    Route("/view", view), Route("/update", update, methods=["POST"]), Route("/clear", clear, methods=["POST"]),
    WebSocketRoute("/greet", greet),
]  # fmt: skip


@pytest.fixture(params=["memory", "redis"])
def settings(request: pytest.FixtureRequest, redis_url: str, namespace: str, tmp_path: Path) -> Callable[..., Settings]:
    url = redis_url if request.param == "redis" else "memory://"

    def make(**more: Any) -> Settings:
        return Settings(redis_url=url, namespace=namespace, secret_key=KEY, volumes=f"a={tmp_path / 'a'}", **more)

    return make


@pytest.fixture
def client(settings: Callable[..., Settings]) -> Iterator[TestClient]:
    """Starlette's test client, as its users have it: over http."""
    with TestClient(app(settings())) as made:
        yield made


def app(settings: Settings, routes: Any = ROUTES, **options: Any) -> Starlette:
    return Starlette(routes=routes, middleware=[Middleware(SessionSweepMiddleware, settings=settings, **options)])


def test_a_session_is_viewed_updated_and_cleared(client: TestClient) -> None:
    assert client.get("/view").json() == {}
    answer = client.post("/update?some=data")
    assert answer.json() == {"some": "data"}
    assert client.get("/view").json() == {"some": "data"}
    assert client.post("/clear").json() == {}
    assert client.get("/view").json() == {}


def test_without_max_age_the_cookie_goes_with_the_browser(client: TestClient) -> None:
    """Starlette's default is 14 days; with `max_age=None` it is as here."""
    cookie = client.post("/update?some=data").headers["Set-Cookie"].lower()
    assert "max-age" not in cookie
    assert "expires" not in cookie
    assert "Set-Cookie" not in client.get("/view").headers, "the server knows when it was used: no new cookie each time"
    client.cookies.clear()
    assert client.get("/view").json() == {}


def test_a_cookie_that_is_none_is_an_empty_session(client: TestClient) -> None:
    client.cookies.set("sessionsweep", "invalid")
    assert client.get("/view").json() == {}


def test_one_that_is_over_is_empty(settings: Callable[..., Settings]) -> None:
    with TestClient(app(settings(idle_timeout=0.001))) as client:
        assert client.post("/update?some=data").json() == {"some": "data"}
        assert "sessionsweep" in client.cookies
        assert client.get("/view").json() == {}


def test_a_secure_cookie_is_for_https_only(settings: Callable[..., Settings]) -> None:
    """`https_only=True` there."""
    served = app(settings(cookie_secure="always"))
    with TestClient(served) as plain:
        assert plain.post("/update?some=data").json() == {"some": "data"}
        assert plain.get("/view").json() == {}, "it isn't sent back"
        secure = TestClient(served, base_url="https://testserver")
        secure.portal = plain.portal
        secure.post("/update?some=data")
        assert secure.get("/view").json() == {"some": "data"}
        secure.post("/clear")
        assert secure.get("/view").json() == {}


def test_a_name_of_ones_own(settings: Callable[..., Settings]) -> None:
    """`session_cookie=` there."""
    with TestClient(app(settings(), cookie_name="sid")) as client:
        client.post("/update?some=data")
        assert list(client.cookies) == ["sid"]
        assert client.get("/view").json() == {"some": "data"}


def test_around_a_mounted_app_the_cookie_is_for_the_whole_host(settings: Callable[..., Settings]) -> None:
    """`path=` there: here only a cookie for / may have the name that no subdomain can set."""
    outer = Starlette(routes=[Mount("/second", app=app(settings()))])
    with TestClient(outer) as client:
        cookie = client.post("/second/update?some=data").headers["Set-Cookie"]
        assert "Path=/;" in cookie
        assert "domain" not in cookie.lower()
        assert client.get("/second/view").json() == {"some": "data"}
        assert client.get("/second/sessionsweep/time-left").json()["seconds"] > 800
        client.portal.call(_middleware(outer.routes[0].app).sessions.close)  # type: ignore[union-attr,attr-defined]


def test_twice_around_one_app_it_is_one_session(settings: Callable[..., Settings]) -> None:
    inner = app(settings())
    with TestClient(app(settings(), [*ROUTES, Mount("/inner", app=inner)])) as client:
        client.post("/inner/update?some=data")
        assert len(client.cookies) == 1
        assert client.get("/view").json() == client.get("/inner/view").json() == {"some": "data"}


def test_a_websocket_reads_it_and_keeps_what_it_saves(client: TestClient) -> None:
    """There what a WebSocket changes is lost: it has no response to set a cookie."""
    client.post("/update?some=data")
    for address, kept in (("/greet", {"some": "data"}), ("/greet?save=1", {"some": "data", "heard": "hello"})):
        with client.websocket_connect(address) as websocket:
            assert websocket.receive_json() == {"some": "data"}
            websocket.send_text("hello")
            websocket.receive()
        assert client.get("/view").json() == kept


def test_a_test_client_that_starts_no_lifespan_works_too(settings: Callable[..., Settings]) -> None:
    """Each of its requests has an event loop of its own, whose connection nobody closes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        client = TestClient(app(settings()))
        client.post("/update?some=data")
        assert client.get("/view").json() == {"some": "data"}
        assert client.get("/view").json() == {"some": "data"}
        del client
        gc.collect()


def _middleware(served: Any) -> SessionSweepMiddleware:
    layer = served.middleware_stack
    while not isinstance(layer, SessionSweepMiddleware):
        layer = layer.app
    return layer


async def silent(request: Request) -> JSONResponse:
    return JSONResponse({})


@pytest.mark.parametrize("path", ["/view", "/silent"])
@pytest.mark.parametrize("ours_first", [True, False], ids=["ours-outermost", "starlettes-outermost"])
def test_two_session_middlewares_are_told_in_one_sentence(
    settings: Callable[..., Settings], ours_first: bool, path: str
) -> None:
    both = [Middleware(SessionSweepMiddleware, settings()), Middleware(SessionMiddleware, secret_key="x")]
    app = Starlette(routes=[*ROUTES, Route("/silent", silent)], middleware=both if ours_first else both[::-1])
    with TestClient(app) as client, pytest.raises(ConfigurationError, match="two session middlewares: leave Starlette"):
        client.get(path)


def test_a_mounted_app_may_have_starlettes_where_it_has_not_ours(settings: Callable[..., Settings]) -> None:
    its_own = Starlette(routes=ROUTES, middleware=[Middleware(SessionMiddleware, secret_key="x")])
    ours = Middleware(SessionSweepMiddleware, settings(), without_session=["/admin/*"])
    app = Starlette(routes=[*ROUTES, Mount("/admin", its_own)], middleware=[ours])
    with TestClient(app) as client:
        assert client.post("/admin/update?x=1").json() == {"x": "1"}
        assert client.post("/update?y=2").json() == {"y": "2"}
        assert client.get("/admin/view").json() == {"x": "1"}
