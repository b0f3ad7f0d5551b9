"""The example as its own author would test it: wherever it dies, nothing of a session stays behind."""

from __future__ import annotations

import io

import pytest
from flask.testing import FlaskClient

from sessionsweep.testing import Deployment
from voice_notes.app import create_app

pytest_plugins = ["sessionsweep.testing.fixtures"]


def upload(client: FlaskClient) -> None:
    client.post("/files", data={"file": (io.BytesIO(b"RIFF"), "note.wav")})


def speak(client: FlaskClient) -> None:
    client.post("/speak", json={"text": "Milk."})


def log_in_and_out(client: FlaskClient) -> None:
    upload(client)
    client.post("/login", data={"user": "ana"})
    client.post("/logout")


def delete(client: FlaskClient) -> None:
    upload(client)
    for note in client.get("/files").json["files"]:
        client.delete(f"/files/{note['resource_id']}")


@pytest.mark.parametrize("story", [upload, speak, log_in_and_out, delete])
def test_wherever_it_dies_nothing_stays_behind(deployment: Deployment, story: object) -> None:
    app = create_app(sessions=deployment.sessions)
    died = 0
    for crash in deployment.crashes():
        with crash:
            story(app.test_client())  # type: ignore[operator]
        died += bool(crash.where)
    assert died > 4, "it was hardly ever killed"
    deployment.assert_nothing_left_behind()


def test_notes_live_as_long_as_their_session(deployment: Deployment) -> None:
    client = create_app(sessions=deployment.sessions).test_client()
    upload(client)
    deployment.advance("14m")
    deployment.run_passes()
    assert len(deployment.files()) == 1
    client.get("/files")  # renews it
    deployment.advance("14m")
    deployment.run_passes()
    assert len(deployment.files()) == 1
    deployment.assert_nothing_left_behind()
