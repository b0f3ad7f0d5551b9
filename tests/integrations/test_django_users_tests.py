"""A user's own tests of a Django project: `using` puts a test's deployment in the place of the project's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.test import AsyncClient, Client, override_settings
from django.urls import path

from sessionsweep.testing import Deployment
from support import django_site

django_site.ready()

from django.http import HttpRequest, HttpResponse  # noqa: E402

from sessionsweep.integrations.django import configured, sessions  # noqa: E402
from sessionsweep.integrations.django.configured import using  # noqa: E402


def put(request: HttpRequest) -> HttpResponse:
    with request.session.resources.new_file(purpose="photo") as f:  # type: ignore[attr-defined]
        f.write(b"jpeg")
    request.session["last"] = f.id
    return HttpResponse(f.id)


async def aput(request: HttpRequest) -> HttpResponse:
    async with request.session.resources.anew_file(purpose="photo") as f:  # type: ignore[attr-defined]
        await f.write(b"jpeg")
    return HttpResponse(f.id)


urls = type("urls", (), {"urlpatterns": [path("put", put), path("aput", aput)]})


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    site = override_settings(ROOT_URLCONF=urls, MIDDLEWARE=[django_site.MIDDLEWARE])
    ages = {"idle_timeout": settings.SESSION_COOKIE_AGE, "max_duration": 0}
    with Deployment(tmp_path, **ages) as made, site, using(made.sessions, made.async_sessions):
        yield made


def test_the_project_s_requests_meet_the_test_s_deployment(deployment: Deployment) -> None:
    browser = Client()
    assert browser.get("/put").status_code == 200
    assert sessions() is deployment.sessions
    assert len(deployment.files()) == 1
    deployment.advance("13d")
    deployment.run_passes()
    assert len(deployment.files()) == 1, "two weeks, as the project says"
    deployment.assert_nothing_left_behind()
    assert deployment.files() == []


async def test_asynchronous_views_meet_it_too(deployment: Deployment) -> None:
    assert (await AsyncClient().get("/aput")).status_code == 200
    assert len(deployment.files()) == 1
    deployment.assert_nothing_left_behind()


def test_a_project_that_dies_anywhere_leaves_nothing_behind(deployment: Deployment) -> None:
    died = []
    for crash in deployment.crashes():
        with crash:
            Client().get("/put")
        died.append(crash.where)
    assert {"after Register", "before Commit"} <= set(died)
    deployment.assert_nothing_left_behind()


def test_the_project_s_own_is_back_after_the_block(tmp_path: Path) -> None:
    before = configured.current()
    with Deployment(tmp_path) as made, pytest.raises(ZeroDivisionError), using(made.sessions, made.async_sessions):
        _ = 1 / 0
    assert configured.current() is before
