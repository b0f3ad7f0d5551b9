"""Our own app's connection to a Redis broker: what is no message is dropped, and a line in the log says from where.

kombu lets such an element end the worker. The element is gone then; but one that looks enough like a message to be kept
until it is acknowledged goes back into its queue, and ends the next worker too. Where a key of the broker's holds
something else altogether, or the server refuses a command, the broker counts as away: the worker tries it again, and
its keeper goes on. Apps that we are installed in keep the connection that they have.
"""

from __future__ import annotations

import functools
import logging
import reprlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import redis.exceptions
from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.transport import redis as transport
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

log = logging.getLogger(__name__)

SHOWN = 100  # characters of what was dropped
PAUSE = 2.0  # seconds from a refusal to the next connection, which is refused at once where nobody has mended it

#: How our messages are written. With another encoding (`bz2` is one, too) a few hundred bytes become as many gigabytes
#: as whoever packed them likes.
ENCODINGS = frozenset({None, "utf-8", "binary"})
BODY_ENCODINGS = frozenset({None, "base64"})

#: What a message's content makes kombu and Celery raise. Not the broker's errors: those are theirs to handle.
CONTENT_ERRORS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class BrokerUnusableError(redis.exceptions.ConnectionError):
    """The broker's server answers, and refuses."""


@contextmanager
def _usable() -> Iterator[None]:
    """Makes a refusal (a key of another type, a full server) a broker that is away: Celery survives only that."""
    try:
        yield
    except redis.exceptions.ResponseError as error:
        Transport.refused_at = time.monotonic()
        raise BrokerUnusableError(
            f"the broker refuses ({error}); if its keys hold something else, delete those that begin with "
            "<SESSIONSWEEP_NAMESPACE>:celery:"
        ) from error


@contextmanager
def _open() -> Iterator[None]:
    """Makes a channel that was closed meanwhile a broker that is away: kombu finds no address in it, which would
    end the worker (a task may end after its connection)."""
    try:
        yield
    except AttributeError as error:
        raise BrokerUnusableError(f"the connection is closed ({error})") from error


class _QoS(transport.QoS):
    """What waits for its acknowledgement: what is no message doesn't stop the others from being restored."""

    def ack(self, delivery_tag: str) -> None:
        """See kombu's QoS.ack."""
        with _usable(), _open():
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """See kombu's QoS.reject."""
        with _usable(), _open():
            super().reject(delivery_tag, requeue)  # type: ignore[no-untyped-call]

    def restore_visible(self, *args: Any, **options: Any) -> None:
        """See kombu's QoS.restore_visible. Consuming goes on where that alone is refused."""
        try:
            self._free_mutex()
            super().restore_visible(*args, **options)  # type: ignore[no-untyped-call]
        except redis.exceptions.ResponseError as error:
            log.warning("messages that were not acknowledged can't be restored; the broker refuses: %s", error)

    def restore_unacked(self, client: Any = None) -> None:
        """See kombu's QoS.restore_unacked. What isn't put back now comes back after the visibility timeout."""
        try:
            with _usable(), _open():
                super().restore_unacked(client)  # type: ignore[no-untyped-call]
        except (redis.exceptions.RedisError, OSError) as error:
            log.warning("%d messages are not put back now: %s", len(self._delivered), error)
            self._delivered.clear()

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """See kombu's QoS.restore_by_tag."""
        try:
            super().restore_by_tag(tag, client, leftmost)  # type: ignore[no-untyped-call]
        except OSError:
            raise
        except CONTENT_ERRORS as error:
            self._remove_from_indices(tag).execute()  # type: ignore[no-untyped-call]
            _dropped(self.unacked_key, tag, error)

    def _free_mutex(self) -> None:
        """A lock without an end is no worker's, and would keep all of them from restoring for ever."""
        with self.channel.conn_or_acquire() as client:
            if client.pttl(client.global_keyprefix + self.unacked_mutex_key) == -1:  # kombu knows no prefix for PTTL
                client.delete(self.unacked_mutex_key)


class _Client(transport.PrefixedStrictRedis):
    """Takes an element that can't be decoded for none: as if the queue had been empty."""

    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
        """See redis.Redis.parse_response."""
        reply = super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        if command_name == "BRPOP" and reply:
            queue, element = reply
            try:
                loads(bytes_to_str(element))  # type: ignore[no-untyped-call]  # as the channel will
            except Exception as error:
                _dropped(queue.decode(), element, error)
                return None
        return reply


class _Checked:
    """What both kinds of Redis channel do differently here."""

    QoS = _QoS

    def _get_client(self: Any) -> Any:
        super()._get_client()  # type: ignore[misc]  # checks redis-py's version
        return functools.partial(_Client, global_keyprefix=self.global_keyprefix)

    def close(self: Any) -> None:
        """See kombu's Channel.close, which over a broken connection stops at its first command. What it would have let
        go is let go then: its sockets, and what would restore at exit what the visibility timeout restores. Each
        restart of the broker would leave two sockets in a worker with gossip.
        """
        try:
            super().close()  # type: ignore[misc]
        finally:
            if not self.closed and self._qos is not None:
                self._qos._on_collect.cancel()
            self._disconnect_pools()

    def basic_consume(self: Any, queue: str, *args: Any, **options: Any) -> Any:
        """See kombu's Channel.basic_consume."""
        consumed = super().basic_consume(queue, *args, **options)  # type: ignore[misc]
        callbacks = self.connection._callbacks
        callbacks[queue] = functools.partial(self._checked, queue, callbacks[queue])
        return consumed

    def _checked(self: Any, queue: str, deliver: Any, raw: Any) -> None:
        try:
            _require_plain(raw)
            deliver(raw)
        except OSError:  # some are ValueErrors as well
            raise
        except CONTENT_ERRORS as error:
            _dropped(queue, raw, error)
            tag = _tag(raw)
            if tag in self.qos._delivered:
                self.basic_reject(tag, requeue=False)  # or it would come back

    def _brpop_read(self: Any, **options: Any) -> Any:
        with _usable():
            return super()._brpop_read(**options)  # type: ignore[misc]

    def _receive_one(self: Any, client: Any) -> Any:
        try:
            return super()._receive_one(client)  # type: ignore[misc]
        except RecursionError as error:  # what else can't be decoded is told and dropped there
            _dropped("of remote control", b"", error)
            return None


class Channel(_Checked, transport.Channel):
    """To one Redis."""


class SentinelChannel(_Checked, transport.SentinelChannel):
    """To one that Sentinels name."""


class _Tidy:
    """Connects no sooner than PAUSE after a refusal, and leaves nothing of a connection in the event loop behind."""

    _loop: Any = None
    _ticks: frozenset[Any] = frozenset()

    def establish_connection(self: Any) -> Any:
        """See kombu's Transport.establish_connection."""
        time.sleep(max(0.0, Transport.refused_at + PAUSE - time.monotonic()))
        return super().establish_connection()  # type: ignore[misc]

    def register_with_event_loop(self: Any, connection: Any, loop: Any) -> None:
        """See kombu's Transport.register_with_event_loop."""
        before = frozenset(loop.on_tick)
        super().register_with_event_loop(connection, loop)  # type: ignore[misc]
        self._loop, self._ticks = loop, frozenset(loop.on_tick) - before

    def close_connection(self: Any, connection: Any) -> None:
        """See kombu's Transport.close_connection, which leaves its timers and its look at each tick behind: they would
        look after broken connections, one more after each restart of the broker, until the worker ends."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.on_tick.difference_update(self._ticks)
            self._ticks = frozenset()
            for name, timer in vars(self.cycle).items():
                if name.endswith("_tref") and timer is not None:
                    timer.cancel()
        super().close_connection(connection)  # type: ignore[misc]


class Transport(_Tidy, transport.Transport):
    """To one Redis."""

    Channel = Channel
    refused_at: ClassVar[float] = float("-inf")  # this process's clock


class SentinelTransport(_Tidy, transport.SentinelTransport):
    """To one that Sentinels name."""

    Channel = SentinelChannel


CHECKED = {transport.Transport: Transport, transport.SentinelTransport: SentinelTransport}


class CheckedConnection(Connection):
    """Connects as the URL says; by the checked transport where the broker is a Redis."""

    def get_transport_cls(self) -> Any:
        """The class of the transport."""
        named = super().get_transport_cls()  # type: ignore[no-untyped-call]
        return CHECKED.get(named, named)


class CheckedAMQP(AMQP):  # type: ignore[misc]
    """Makes an app's connections."""

    Connection = CheckedConnection


def _require_plain(raw: Any) -> None:
    """Refuses, before anything is kept or decoded, what none of our messages has.

    Raises:
        TypeError: its tag isn't text. ValueError: it is packed. Also LookupError, AttributeError: it is no message.
    """
    properties, headers = raw["properties"], raw.get("headers") or {}
    if not isinstance(properties["delivery_tag"], str):
        raise TypeError("the tag is no text")
    if headers.get("compression") is not None:
        raise ValueError("our messages are not compressed")
    if raw.get("content-encoding") not in ENCODINGS or properties.get("body_encoding") not in BODY_ENCODINGS:
        raise ValueError("our messages have no such encoding")


def _tag(raw: Any) -> str | None:
    """The name under which a message waits for its acknowledgement."""
    try:
        tag = raw["properties"]["delivery_tag"]
    except CONTENT_ERRORS:
        return None
    return tag if isinstance(tag, str) else None


def _dropped(queue: str, what: object, error: Exception) -> None:
    shown = repr(what[:SHOWN]) if isinstance(what, bytes) else reprlib.repr(what)
    log.warning("dropped from the queue %s what is no message (%s): %s", queue, type(error).__name__, shown[:SHOWN])
