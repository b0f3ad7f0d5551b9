"""`/admin/trends`: what was done, step by step, at a constant cost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from admin_client import READ, Admin
from past_work import FOREVER, past


@pytest.fixture
def admin(make_admin: Callable[..., Admin]) -> Admin:
    return make_admin(**FOREVER)


def test_hours(admin: Admin) -> None:
    past(admin)
    told = admin.get("/trends", since="24h")
    assert told["by"] == "hour"
    assert [one["sessions_created"] for one in told["periods"]][:4] == [1, 2, 3, 4]
    assert [one["sessions_ended"] for one in told["periods"]][:4] == [0, 1, 2, 3]
    assert [one["active_sessions_peak"] for one in told["periods"]][:4] == [1, 2, 3, 4]
    assert told["total"]["ended_by_reason"] == {"logout": 6}
    assert 3600 <= told["total"]["mean_duration_seconds"] < 3660
    assert admin.get("/trends", since="90m", by="hour")["total"]["sessions_created"] == 7
    assert admin.get("/trends")["by"] == "hour"
    assert admin.get("/trends", by="day")["total"]["sessions_created"] == 10


def test_before_the_first_snapshot(admin: Admin) -> None:
    told = admin.get("/trends", by="minute")
    assert (told["periods"], told["total"]) == ([], None)


@pytest.mark.parametrize(
    "params",
    [
        {"by": "week"}, {"by": ""}, {"by": "MINUTE"}, {"by": "m" * 41}, {"since": ""}, {"since": "0"},
        {"since": "-1h"}, {"since": "tomorrow"}, {"since": "nan"}, {"since": "9" * 40}, {"since": "1h\x00"},
        {"since": "30d", "by": "minute"}, {"since": "401d"}, {"since": "<script>"},
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(admin: Admin, params: dict[str, str]) -> None:
    answer = admin.http.get("/admin/trends", params=params, headers={"X-Admin-Token": READ})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


def test_nobody_reads_them_without_a_token(admin: Admin) -> None:
    assert admin.http.get("/admin/trends").status_code == 401
    assert admin.http.post("/admin/trends", headers={"X-Admin-Token": READ}).status_code == 405
