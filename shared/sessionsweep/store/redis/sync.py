"""The synchronous Redis store: sends operations over held connections, one round trip each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import redis
from redis import exceptions as driver

from sessionsweep.errors import StoreError
from sessionsweep.store.keys import Keys
from sessionsweep.store.operations import Operation
from sessionsweep.store.redis import replies, scripts
from sessionsweep.store.redis.connections import Connections
from sessionsweep.store.redis.wire import WIRE, command

R = TypeVar("R")
_BROKEN = (driver.ConnectionError, driver.TimeoutError, OSError)


class RedisStore:
    """See store.protocol.Store. Threads share it; a fork makes its own connections; nothing connects before use.

    `test_clock`: scripts read their time from keys that tests set (`advance`, `freeze`); production never does.
    """

    def __init__(
        self, url: str, namespace: str = "ss", *, socket_timeout: float = 5.0, test_clock: bool = False
    ) -> None:
        self.url = url
        self.keys = Keys(namespace)
        self._socket_timeout = socket_timeout
        self._connections = Connections(url, socket_timeout=socket_timeout)
        self._clock = namespace if test_clock else None
        self._shas: dict[str, str] = {}

    def execute(self, operation: Operation[R]) -> R:
        """Carries one out; see Store.execute."""
        wire = WIRE[type(operation)]
        words = command(operation, self.keys, self._sha)
        reply = self._send(words, wire.script, operation.repeatable)
        return wire.decode(operation, reply)  # type: ignore[no-any-return]

    def execute_many(self, operations: Sequence[Operation[Any]]) -> list[Any | StoreError]:
        """Many in one round trip; a failed one answers its error in its place."""
        if not operations:
            return []
        wires = [WIRE[type(operation)] for operation in operations]
        batch = [command(operation, self.keys, self._sha) for operation in operations]
        answers = self._send_batch(batch, [w.script for w in wires], all(o.repeatable for o in operations))
        return [
            answer if isinstance(answer, StoreError) else wire.decode(operation, answer)
            for operation, wire, answer in zip(operations, wires, answers, strict=True)
        ]

    def nudges(self, locations: Sequence[str], poll: float) -> Iterator[str]:
        """Locations that became due, as they are published; "" every `poll` seconds without one.

        A cut connection is made again, with "" in between: what was published meanwhile is in the queue.
        """
        while not self._connections._closed:
            client = redis.Redis.from_url(self.url, socket_timeout=self._socket_timeout, protocol=2)
            try:
                with client.pubsub(ignore_subscribe_messages=True) as pubsub:  # type: ignore[no-untyped-call]
                    pubsub.subscribe(*[self.keys.nudge(location) for location in locations])
                    while not self._connections._closed:
                        message = pubsub.get_message(timeout=poll)
                        yield message["data"].decode() if message else ""
            except _BROKEN:
                time.sleep(min(poll, 1.0))
                yield ""
            finally:
                client.close()

    def close(self) -> None:
        """Closes connections. Idempotent."""
        self._connections.close()

    def advance(self, milliseconds: int) -> None:
        """Tests only: moves the time that scripts see."""
        self._test_call("INCRBY", "offset", milliseconds)

    def freeze(self, now: int) -> None:
        """Tests only: stops the time that scripts see at `now` ms."""
        self._test_call("SET", "frozen", now)

    def _test_call(self, verb: str, name: str, value: int) -> None:
        if self._clock is None:
            raise StoreError("this store's time can't be moved: it was not made with test_clock=True")
        if name == "offset" and self._send(["GET", f"{self._clock}:test:frozen"], "", True) is not None:
            name = "frozen"
        self._send([verb, f"{self._clock}:test:{name}", value], "", False)

    def _sha(self, name: str) -> str:
        sha = self._shas.get(name)
        if sha is None:
            sha = self._shas[name] = scripts.load(name, self._clock).sha
        return sha

    def _send(self, words: list[Any], script: str, repeatable: bool) -> Any:
        for last in (False, True):
            try:
                connection = self._connections.take()
            except _BROKEN as error:
                raise replies.unreachable(error) from error
            except driver.ResponseError as error:  # wrong password, loading its data
                raise replies.refused(error) from error
            try:
                connection.send_packed_command(connection.pack_command(*words), check_health=False)
                reply = connection.read_response()
            except driver.ResponseError as error:
                if not replies.is_no_script(error):
                    self._connections.put(connection)
                    raise replies.refused(error) from error
                reply = self._load_and_repeat(connection, words, script)
            except _BROKEN as error:
                connection.disconnect()
                self._connections.drop_idle()
                if repeatable and not last:
                    continue
                raise replies.cut(error) from error
            except BaseException:
                connection.disconnect()  # a reply may still be on its way: never reused
                raise
            self._connections.put(connection)
            return reply
        raise AssertionError("unreachable")

    def _load_and_repeat(self, connection: Any, words: list[Any], script: str) -> Any:
        """NOSCRIPT: nothing was done, so sending again can't do it twice."""
        try:
            connection.send_command("SCRIPT", "LOAD", scripts.load(script, self._clock).text)
            connection.read_response()
            connection.send_packed_command(connection.pack_command(*words), check_health=False)
            return connection.read_response()
        except driver.ResponseError as error:
            self._connections.put(connection)
            raise replies.refused(error) from error
        except _BROKEN as error:
            connection.disconnect()
            raise replies.cut(error) from error

    def _send_batch(self, batch: list[list[Any]], names: list[str], repeatable: bool) -> list[Any]:
        for last in (False, True):
            try:
                connection = self._connections.take()
            except (*_BROKEN, driver.ResponseError) as error:
                return [replies.unreachable(error)] * len(batch)
            try:
                connection.send_packed_command(connection.pack_commands(batch), check_health=False)
                answers: list[Any] = []
                for _ in batch:
                    try:
                        answers.append(connection.read_response())
                    except driver.ResponseError as error:
                        answers.append(error)
                again = [i for i, a in enumerate(answers) if isinstance(a, Exception) and replies.is_no_script(a)]
                for name in {names[i] for i in again}:
                    connection.send_command("SCRIPT", "LOAD", scripts.load(name, self._clock).text)
                    connection.read_response()
                for i in again:  # only the calls that failed are sent again
                    try:
                        connection.send_command(*batch[i])
                        answers[i] = connection.read_response()
                    except driver.ResponseError as error:
                        answers[i] = error
            except _BROKEN as error:
                connection.disconnect()
                self._connections.drop_idle()
                if repeatable and not last:
                    continue
                return [replies.cut(error)] * len(batch)
            except BaseException:
                connection.disconnect()
                raise
            self._connections.put(connection)
            return [replies.refused(a) if isinstance(a, driver.ResponseError) else a for a in answers]
        raise AssertionError("unreachable")
