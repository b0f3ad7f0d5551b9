"""Our own app's connection to a Redis broker: what is no message is dropped, and a line in the log says from where.

kombu lets such an element end the worker. The element is gone then; but one that looks enough like a message to be kept
until it is acknowledged goes back into its queue, and ends the next worker too. Apps that we are installed in keep the
connection that they have.
"""

from __future__ import annotations

import functools
import logging
import reprlib
from typing import Any

from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.transport import redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

log = logging.getLogger(__name__)

SHOWN = 100  # characters of what was dropped

#: What a message's content makes kombu and Celery raise. Not the broker's errors: those are theirs to handle.
CONTENT_ERRORS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class _Client(redis.PrefixedStrictRedis):
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

    def _get_client(self: Any) -> Any:
        super()._get_client()  # type: ignore[misc]  # checks redis-py's version
        return functools.partial(_Client, global_keyprefix=self.global_keyprefix)

    def basic_consume(self: Any, queue: str, *args: Any, **options: Any) -> Any:
        """See kombu's Channel.basic_consume."""
        consumed = super().basic_consume(queue, *args, **options)  # type: ignore[misc]
        callbacks = self.connection._callbacks
        callbacks[queue] = functools.partial(self._checked, queue, callbacks[queue])
        return consumed

    def _checked(self: Any, queue: str, deliver: Any, raw: Any) -> None:
        try:
            deliver(raw)
        except OSError:  # some are ValueErrors as well
            raise
        except CONTENT_ERRORS as error:
            _dropped(queue, raw, error)
            tag = _tag(raw)
            if tag in self.qos._delivered:
                self.basic_reject(tag, requeue=False)  # or it would come back

    def _receive_one(self: Any, client: Any) -> Any:
        try:
            return super()._receive_one(client)  # type: ignore[misc]
        except RecursionError as error:  # what else can't be decoded is told and dropped there
            _dropped("of remote control", b"", error)
            return None


class Channel(_Checked, redis.Channel):
    """To one Redis."""


class SentinelChannel(_Checked, redis.SentinelChannel):
    """To one that Sentinels name."""


class Transport(redis.Transport):
    """To one Redis."""

    Channel = Channel


class SentinelTransport(redis.SentinelTransport):
    """To one that Sentinels name."""

    Channel = SentinelChannel


CHECKED = {redis.Transport: Transport, redis.SentinelTransport: SentinelTransport}


class CheckedConnection(Connection):
    """Connects as the URL says; by the checked transport where the broker is a Redis."""

    def get_transport_cls(self) -> Any:
        """The class of the transport."""
        named = super().get_transport_cls()  # type: ignore[no-untyped-call]
        return CHECKED.get(named, named)


class CheckedAMQP(AMQP):  # type: ignore[misc]
    """Makes an app's connections."""

    Connection = CheckedConnection


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
