"""What clients do: through the public API of a web node, on sessions that they share, as an app's users would."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sessionsweep import Session, Sessions
from sessionsweep.errors import SessionSweepError
from sessionsweep.model.ids import new_resource_id
from sessionsweep.sessions import files
from sessionsweep.store import operations as op
from sessionsweep.volumes import layout
from simulation.baton import Actor, SteppedStore

USERS = ("ann", "bob")


@dataclass
class Known:
    """What users know together: tokens, and the contents of their files."""

    tokens: list[str] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)  # resource id → what was written and committed
    files: list[tuple[str, str]] = field(default_factory=list)  # (session id, resource id) of each
    promoted: dict[str, bytes] = field(default_factory=dict)  # name in `kept` → content, answered
    maybe_promoted: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    did: int = 0


class Client:
    """One request after the other, on one node; each fails alone."""

    def __init__(self, known: Known, web: Sessions, store: SteppedStore, rng: random.Random, scratch: Path) -> None:
        self._known = known
        self._web = web
        self._store = store
        self._rng = rng
        self._scratch = scratch

    def __call__(self, actor: Actor) -> None:
        """Some requests."""
        for _ in range(self._rng.choice((1, 2, 3, 4))):
            try:
                self._request()
                self._known.did += 1
            except SessionSweepError:
                continue  # an app answers 4xx or 5xx

    def _request(self) -> None:
        rng, known = self._rng, self._known
        if not known.tokens or rng.random() < 0.22:
            user = rng.choice((None, None, *USERS))
            _, token = self._web.create(user=user)
            known.tokens.append(token)
            return
        chance = rng.random()
        if chance < 0.04:
            self._web.end_user(rng.choice(USERS))
        elif chance < 0.08:
            self._web.track(rng.choice(("jwt-1", "jwt-2")), rng.choice((None, *USERS)))
        elif chance < 0.10:
            self._web.list()
        else:
            token = rng.choice(known.tokens[-6:])
            session = self._web.open(token)
            if rng.random() < 0.85:
                names, weights = zip(*DEEDS.items(), strict=True)
                rng.choices(names, weights)[0](self, session)

    def write(self, session: Session) -> None:
        """A file: its intent, its bytes, perhaps more bytes than reserved, its commit."""
        stated = self._rng.choice((None, 40, 400))
        content = self._rng.randbytes(self._rng.choice((0, 10, 40, 90)))
        with session.new_file("test", ".bin", max_size=stated, volume=self._volume()) as file:
            self._known.files.append((session.id, file.id))
            file.write(content[:20])
            file.write(content[20:])
            self._known.contents[file.id] = content
            if self._rng.random() < 0.1:
                raise SessionSweepError("the app gives up")

    def adopt(self, session: Session) -> None:
        """A file of the app's becomes the session's."""
        source = self._scratch / new_resource_id()
        source.write_bytes(b"adopted")
        rid = session.adopt_file(source, "adopted", suffix=".bin", volume=self._volume())
        self._known.contents[rid] = b"adopted"
        self._known.files.append((session.id, rid))

    def read(self, session: Session) -> None:
        """Reads one of its files, pinned meanwhile."""
        rid = self._one_of(session)
        if self._rng.random() < 0.5:
            with session.open_file(rid) as opened:
                content = opened.read()
        else:
            with session.pin(rid, self._rng.choice((2, 20))) as opened:
                session.resources()
                content = opened.read()
        if rid in self._known.contents and content != self._known.contents[rid]:
            self._known.wrong.append(f"{session.id}/{rid} has other bytes than were written")

    def delete(self, session: Session) -> None:
        """Gives a file up."""
        session.delete(self._one_of(session))

    def promote(self, session: Session) -> None:
        """Takes a file out of the session's life."""
        rid = self._one_of(session)
        name = layout.kept_name(session.id, rid)
        self._known.maybe_promoted.add(name)
        session.promote(rid)
        if rid in self._known.contents:  # else whoever made it was killed before it could tell
            self._known.promoted[name] = self._known.contents[rid]

    def rotate(self, session: Session) -> None:
        """A new token, perhaps for a user."""
        user = self._rng.choice((None, *USERS))
        token = session.rotate() if user is None else session.log_in(user)
        self._known.tokens.append(token)

    def extend(self, session: Session) -> None:
        """Other timeouts."""
        session.extend(self._rng.choice((None, 3, 14)), self._rng.choice((None, 30, 120)))

    def save(self, session: Session) -> None:
        """Some data."""
        session.data["n"] = self._rng.randrange(1000)
        session.save()

    def work(self, session: Session) -> None:
        """A job keeps the session alive and writes a file meanwhile."""
        with session.keep_alive(self._rng.choice((1, 20))):
            self.write(session)

    def stream(self, session: Session) -> None:
        """A stream of a web process that dies before it closes it."""
        files_ = files.register(
            self._web.core, session._record, new_resource_id(), "stream", "p.web-1", 0, "", live=True
        )
        session._run(files_)
        self._store.execute(op.TablePut("p", "web-1", str(session._record.last_activity)))

    def end(self, session: Session) -> None:
        """Logs out."""
        session.end()

    def _one_of(self, session: Session) -> str:
        owned = [resource.id for resource in session.resources() if resource.kind == "file"]
        mine = owned or [rid for sid, rid in self._known.files if sid == session.id]
        if not mine:
            raise SessionSweepError("it has no file")
        return self._rng.choice(mine)

    def _volume(self) -> str:
        return self._rng.choice((self._web.settings.node, "shared"))


DEEDS: dict[Callable[[Client, Session], None], int] = {
    Client.write: 34,
    Client.adopt: 6,
    Client.read: 10,
    Client.delete: 8,
    Client.promote: 9,
    Client.rotate: 8,
    Client.extend: 5,
    Client.save: 4,
    Client.work: 5,
    Client.stream: 3,
    Client.end: 8,
}
