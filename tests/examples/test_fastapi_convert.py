"""The convert example behind a real uvicorn, with a real worker that converts and sweeps."""

from __future__ import annotations

import io
import json
import math
import re
import wave
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from convert_site import Site, recording

from sessionsweep_workers.devstack.ports import free_port
from support.processes import wait_until


def upload(web: httpx.Client, sound: bytes) -> str:
    answer = web.post("/files", files={"file": ("talk.wav", sound)})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def events(answer: httpx.Response) -> Iterator[tuple[str, Any]]:
    """The events of a stream as they come."""
    name = ""
    for line in answer.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            text = line.removeprefix("data: ")
            yield name, text if name == "session-ended" else json.loads(text)


def follow(web: httpx.Client, rid: str) -> list[tuple[str, Any]]:
    """All events of a conversion."""
    with web.stream("GET", f"/progress/{rid}") as answer:
        assert answer.status_code == 200
        return list(events(answer))


def test_a_recording_is_converted_while_its_owner_watches(make_site: Callable[..., Site]) -> None:
    site = make_site()
    with site.visitor() as me, site.visitor() as other:
        page = me.get("/")
        assert "Set-Cookie" not in page.headers, "looking makes no session"
        assert "default-src 'none'; script-src 'self';" in page.headers["Content-Security-Policy"]
        assert not re.search(r"<script(?![^>]*src=)|<style| on\w+=| style=", page.text), "its policy would refuse it"
        rid = upload(me, recording(20, rate=44_100, channels=2, width=3))
        told = follow(me, rid)
        shares = [data["done"] for name, data in told[:-1] if name == "progress"]
        assert len(shares) == len(told) - 1
        assert shares == sorted(set(shares))
        assert shares[-1] == 1
        assert any(0 < share < 1 for share in shares), "told on the way, not only in the end"
        last, made = told[-1]
        assert last == "done"

        answer = me.get(f"/files/{made['id']}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/wav")
        with wave.open(io.BytesIO(answer.content)) as sound:
            assert sound.getparams()[:4] == (1, 2, 8000, 20 * 8000)
            assert set(sound.readframes(-1)) == {0x40}
        assert other.get(f"/files/{made['id']}").status_code == 404
        assert other.get(f"/progress/{rid}").status_code == 401
        seen = site.session().last_activity
        (listed,) = me.get("/files").json()
        assert listed == {"id": rid, "name": "talk.wav", "done": 1.0, "result": made["id"], "error": None}
        assert follow(me, rid)[-1] == (last, made), "who comes late is told at once"
        assert site.session().last_activity == seen, "watching renews nothing"

        before = site.session().data, site.left()
        site.send_again(rid)
        wait_until(lambda: len(re.findall(r"8khz\[\S+ succeeded", site.worker.logs())) == 2, what="it ran again")
        assert (site.session().data, site.left()) == before, "a message that came twice makes nothing twice"

        second = me.post("/files", data={"text": "Hello."}).json()["id"]
        _, whistled = follow(me, second)[-1]
        with wave.open(io.BytesIO(me.get(f"/files/{whistled['id']}").content)) as sound:
            assert sound.getframerate() == 8000
            assert max(sound.readframes(-1)) > 0


def test_what_is_no_recording_is_refused_and_leaves_nothing(make_site: Callable[..., Site]) -> None:
    site = make_site()
    with site.visitor() as me:
        for sent in (b"", b"RIFF", b"ID3" + bytes(500), recording(1)[:40], recording(0), recording(1, rate=200_000)):
            answer = me.post("/files", files={"file": ("talk.wav", sent)})
            assert answer.status_code == 415, answer.text
        assert me.post("/files", data={"text": " "}).status_code == 422
        assert me.post("/files", data={"text": "x" * 121}).status_code == 422
        foreign = {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://elsewhere"}
        for headers in foreign:
            assert me.post("/files", data={"text": "Hello."}, headers=headers).status_code == 403
        assert not me.cookies
        assert site.sessions.stats().total_sessions_created == 0
        assert site.left() == []


def test_without_a_broker_it_is_told_and_nothing_is_kept(make_site: Callable[..., Site]) -> None:
    site = make_site(worker=False, broker_url=f"redis://127.0.0.1:{free_port()}/0")
    with site.visitor() as me:
        answer = me.post("/files", data={"text": "Hello."})
        assert (answer.status_code, answer.json()["detail"][:6]) == (503, "Nobody")
        assert me.get("/files").json() == []
        assert site.session().resources() == []


def test_a_log_out_in_the_middle_leaves_nothing(make_site: Callable[..., Site]) -> None:
    site = make_site()
    with site.visitor() as me, site.visitor() as same:
        rid = upload(me, recording(1000))  # 50 s of work at least
        same.cookies = me.cookies
        with me.stream("GET", f"/progress/{rid}") as answer:
            told = events(answer)
            assert next(told)[1]["done"] < 1
            wait_until(lambda: len(site.left()) == 2, what="the job writes beside the upload")
            assert same.post("/logout").status_code == 204
            assert [event for event in told if event[0] != "progress"] == [("session-ended", "logout")]
        site.worker.wait_for_log("is over, and so is the conversion")
        wait_until(lambda: not site.left(), 20, "the worker's passes have deleted everything")
        wait_until(lambda: site.sessions.stats().resources["owed"] == 0, what="nothing is owed")
        assert site.sessions.stats().imbalance == 0
        assert same.get(f"/files/{rid}").status_code == 404
        assert "Traceback" not in site.worker.logs()


def test_a_job_keeps_a_session_alive_whose_owner_is_idle(make_site: Callable[..., Site]) -> None:
    site = make_site(idle_timeout="3")
    with site.visitor() as me:
        rid = upload(me, recording(160))  # 8 s of work
        with me.stream("GET", f"/progress/{rid}") as answer:
            told = events(answer)
            assert next(told)[0] == "progress"
            idle, _ = site.sessions.create()
            with idle.new_file("idle", ".wav") as file:
                file.write(b"x")
            wait_until(lambda: not file.path.exists(), 20, "a session without a job is swept meanwhile")
            assert len(site.left()) == 2, "upload and result of the other are there"
            *_, (last, made) = told
        assert last == "done"
        answer = me.get(f"/files/{made['id']}")
        assert answer.status_code == 200, "its owner has the idle time anew to fetch it"
        with wave.open(io.BytesIO(answer.content)) as sound:
            assert sound.getnframes() == 160 * 8000
    wait_until(lambda: not site.left(), 20, "nobody keeps it any more")


@pytest.mark.parametrize("rate", [1000, 7999, 8000, 11_025, 44_100, 192_000])
@pytest.mark.parametrize(("width", "value"), [(1, -16384), (2, 16448), (3, 16448), (4, 16448)])
def test_every_rate_and_width_keeps_length_and_loudness(rate: int, width: int, value: int) -> None:
    from fastapi_convert.wav import converted, open_wav

    with open_wav(io.BytesIO(recording(2, rate=rate, channels=3, width=width))) as sound:
        made = array("h", b"".join(converted(sound)))
    assert (len(made), set(made)) == (16_000, {value})


def test_channels_are_mixed_and_a_slow_wave_keeps_its_shape() -> None:
    from fastapi_convert.wav import converted, open_wav

    made = io.BytesIO()
    wanted = [round(20_000 * math.sin(2 * math.pi * 50 * at / 8000)) for at in range(8000)]
    with wave.open(made, "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(32_000)
        out.writeframes(array("h", [v for w in wanted for _ in range(4) for v in (w - 100, w + 100)]).tobytes())
    made.seek(0)
    with open_wav(made) as sound:
        assert list(array("h", b"".join(converted(sound)))) == wanted
