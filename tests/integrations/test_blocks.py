"""`with` where `async with` belongs, and the other way round: told before anything is done."""

from __future__ import annotations

import asyncio

import pytest

from support import django_site

django_site.ready()

from sessionsweep import AsyncSessions, Client, InvalidTokenError, Settings  # noqa: E402
from sessionsweep.integrations.asgi.request import RequestSession  # noqa: E402
from sessionsweep.integrations.django import SessionStore, configured  # noqa: E402
from support.django_deployment import Deployment  # noqa: E402
from support.nodes import KEY  # noqa: E402


async def test_with_in_asynchronous_code_says_async_with() -> None:
    sessions = AsyncSessions(Settings(redis_url="memory://", secret_key=KEY, node="a"))
    session = RequestSession(sessions, Client())
    before = (await sessions.stats()).total_sessions_created
    for block in (session.new_file(), session.temp_file()):
        with pytest.raises(TypeError, match="use async with, in async def"), block:  # type: ignore[attr-defined]
            raise AssertionError("entered")
    assert not session
    assert (await sessions.stats()).total_sessions_created == before
    await sessions.close()


def test_async_with_on_a_blocking_call_of_django_names_the_awaited_one(monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = Deployment()
    monkeypatch.setattr(configured, "_current", deployment.configured)
    resources = SessionStore().resources

    async def mistaken(block: object) -> None:
        async with block:  # type: ignore[attr-defined]
            raise AssertionError("entered")

    for block, name in ((resources.new_file(), "anew_file"), (resources.temp_file(), "atemp_file"),
                        (resources.pin("x"), "apin")):  # fmt: skip
        with pytest.raises(TypeError, match=rf"use async with .*resources\.{name}\("):
            asyncio.run(mistaken(block))
    for wrong in (resources.anew_file(), resources.atemp_file(), resources.apin("x")):
        with pytest.raises(TypeError, match="use async with, in async def"), wrong:
            raise AssertionError("entered")
    assert deployment.sessions.stats().total_sessions_created == 0
    deployment.sessions.close()


async def test_activity_without_a_session_is_an_error_in_asgi() -> None:
    sessions = AsyncSessions(Settings(redis_url="memory://", secret_key=KEY, node="a"))
    session = RequestSession(sessions, Client())
    for renewing in (session.extend, session.touch):
        with pytest.raises(InvalidTokenError):
            await renewing()
    await sessions.close()


async def test_a_user_that_is_no_text_logs_nobody_out_in_asgi() -> None:
    sessions = AsyncSessions(Settings(redis_url="memory://", secret_key=KEY, node="a"))
    session = RequestSession(sessions, Client())
    await session.log_in("5")
    before = session.id
    with pytest.raises(TypeError, match=r"give text: str\("):
        await session.log_in(5)  # type: ignore[arg-type]
    assert session.id == before
    assert session.user == "5"
    await sessions.close()
