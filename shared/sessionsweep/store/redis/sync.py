"""The synchronous Redis store: sends operations over held connections, one round trip each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import hiredis
import redis
from redis import exceptions as driver

from sessionsweep.errors import StoreError
from sessionsweep.store.keys import Keys
from sessionsweep.store.operations import Operation
from sessionsweep.store.redis import replies, scripts
from sessionsweep.store.redis.connections import Channel, Connections
from sessionsweep.store.redis.resp import pack
from sessionsweep.store.redis.wire import WIRE

R = TypeVar("R")
#: The driver's whole root, for what answers may be no Redis (InvalidResponse).
_BROKEN = (driver.RedisError, OSError, hiredis.ProtocolError)


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

    def execute(self, operation: Operation[R]) -> R:
        """Carries one out; see Store.execute."""
        wire = WIRE[type(operation)]
        reply = self._exchange(wire.pack(operation, self.keys, self._sha), wire.script, operation.repeatable)
        return wire.read(operation, reply)  # type: ignore[no-any-return]

    def execute_many(self, operations: Sequence[Operation[Any]]) -> list[Any | StoreError]:
        """Many in one round trip; a failed one answers its error in its place."""
        if not operations:
            return []
        wires = [WIRE[type(operation)] for operation in operations]
        batch = [wire.pack(operation, self.keys, self._sha) for operation, wire in zip(operations, wires, strict=True)]
        answers = self._exchange_many(batch, [w.script for w in wires], all(o.repeatable for o in operations))
        return [
            wire.outcome(operation, answer) for operation, wire, answer in zip(operations, wires, answers, strict=True)
        ]

    def nudges(self, locations: Sequence[str], poll: float) -> Iterator[str]:
        """Locations that became due, as they are published; "" every `poll` seconds without one.

        A cut connection is made again, with "" in between: what was published meanwhile is in the queue.
        """
        told = False
        while not self._connections.closed:
            client = redis.Redis.from_url(self.url, socket_timeout=self._socket_timeout, protocol=2)
            try:
                with client.pubsub(ignore_subscribe_messages=True) as pubsub:  # type: ignore[no-untyped-call]
                    pubsub.subscribe(*[self.keys.nudge(location) for location in locations])
                    while not self._connections.closed:
                        yield replies.location(pubsub.get_message(timeout=poll))
            except _BROKEN as error:
                if isinstance(error, driver.ResponseError) and not told:
                    told = True
                    replies.warn_deaf(error)
                time.sleep(min(poll, 1.0))
                yield ""
            finally:
                client.close()

    def close(self) -> None:
        """See Store.close."""
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
        return scripts.shas(self._clock)[name]

    def _send(self, words: list[Any], script: str, repeatable: bool) -> Any:
        return self._exchange(pack(words), script, repeatable)

    def _exchange(self, packed: bytes, script: str, repeatable: bool) -> Any:
        """Sends one packed command and returns its reply."""
        for last in (False, True):
            try:
                channel = self._connections.take()
            except driver.ResponseError as error:  # wrong password, loading its data
                raise replies.refused(error) from error
            except _BROKEN as error:
                # sent before and sent again in vain: its outcome is unknown, not "nothing was done"
                raise (replies.cut(error) if last else replies.unreachable(error)) from error
            try:
                channel.send(packed)
                reply = channel.reply()
                if type(reply) is hiredis.ReplyError and script and replies.is_no_script(reply):
                    # nothing was done, so sending again can't do it twice
                    reply = self._load(channel, script)
                    if type(reply) is not hiredis.ReplyError:
                        channel.send(packed)
                        reply = channel.reply()
            except _BROKEN as error:
                channel.close()
                self._connections.drop_idle()
                if repeatable and not last:
                    continue
                raise replies.cut(error) from error
            except BaseException:
                channel.close()  # a reply may still be on its way: never reused
                raise
            self._connections.put(channel)
            if type(reply) is hiredis.ReplyError:
                raise replies.refused(reply)
            return reply
        raise AssertionError("unreachable")

    def _load(self, channel: Channel, script: str) -> Any:
        """Loads a script. The reply is an error if the server refuses it, which says more than NOSCRIPT does."""
        channel.send(pack(("SCRIPT", "LOAD", scripts.load(script, self._clock).text)))
        return channel.reply()

    def _exchange_many(self, batch: list[bytes], names: list[str], repeatable: bool) -> list[Any]:
        for last in (False, True):
            try:
                channel = self._connections.take()
            except StoreError as error:
                return [error] * len(batch)
            except _BROKEN as error:
                return [replies.cut(error) if last else replies.unreachable(error)] * len(batch)
            try:
                channel.send(b"".join(batch))
                answers = [channel.reply() for _ in batch]
                again = [i for i, a in enumerate(answers) if type(a) is hiredis.ReplyError and replies.is_no_script(a)]
                loaded = {name: self._load(channel, name) for name in {names[i] for i in again}}
                for i in again:  # only the calls that failed are sent again
                    answers[i] = loaded[names[i]]
                    if type(answers[i]) is not hiredis.ReplyError:
                        channel.send(batch[i])
                        answers[i] = channel.reply()
            except _BROKEN as error:
                channel.close()
                self._connections.drop_idle()
                if repeatable and not last:
                    continue
                return [replies.cut(error)] * len(batch)
            except BaseException:
                channel.close()
                raise
            self._connections.put(channel)
            return [replies.refused(a) if type(a) is hiredis.ReplyError else a for a in answers]
        raise AssertionError("unreachable")
