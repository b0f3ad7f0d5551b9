"""What a process measures of its own work: a meter that may be told of it, and nothing where there is none.

`Core.meter` holds it. Flows are measured by `metered`, passes by their pace; neither knows who counts
(`sessionsweep.observe.prometheus` does).
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sessionsweep.errors import (
    ClientMismatchError,
    InvalidTokenError,
    LimitReachedError,
    ResourceNotFoundError,
    SessionEndedError,
    StoreError,
)
from sessionsweep.store import operations as op
from sessionsweep.store.flow import Flow

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

#: How an operation may end, by its error; the first that fits.
OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (
    (SessionEndedError, "ended"),
    (InvalidTokenError, "invalid"),
    (ClientMismatchError, "refused"),
    (LimitReachedError, "limit"),
    (ResourceNotFoundError, "not_found"),
    (StoreError, "store_error"),
)


class Meter(Protocol):
    """Is told of work when it is done; from any thread. What it raises is logged, and breaks nothing."""

    def operation(self, name: str, outcome: str, seconds: float) -> None:
        """A call ended: `ok`, `mismatch` (opened by another client than the session's), or one of OUTCOMES, `error`."""

    def limit(self, name: str) -> None:
        """A limit refused something; the setting's name."""

    def file(self, size: int) -> None:
        """A file was written and committed; bytes."""

    def batch(self, name: str, seconds: float) -> None:
        """A pass worked so long between two rests."""

    def ran(self, name: str, seconds: float) -> None:
        """A pass ended; rests included."""

    def reclaimed(self, volume: str, outcomes: dict[str, int], size: int) -> None:
        """Resources by what became of them at a volume, and the bytes that were freed."""


class Measured(Protocol):
    """What a flow is about: a deployment that may have a meter."""

    meter: Meter | None


M = TypeVar("M", bound=Measured)


def metered(
    name: str,
) -> Callable[[Callable[Concatenate[M, P], Flow[R]]], Callable[Concatenate[M, P], Flow[R]]]:
    """Measures a flow, whoever runs it, where its deployment has a meter; else it costs one look."""

    def decorate(begin: Callable[Concatenate[M, P], Flow[R]]) -> Callable[Concatenate[M, P], Flow[R]]:
        @functools.wraps(begin)
        def measured(core: M, /, *args: P.args, **kwargs: P.kwargs) -> Flow[R]:
            flow = begin(core, *args, **kwargs)
            return flow if core.meter is None else _measure(flow, name, core.meter)

        return measured

    return decorate


def tell(report: Callable[..., None], *about: Any) -> None:
    """Tells a meter. One that raises must not fail the request. (A full disk raises nothing: see `observe.mapped`.)"""
    try:
        report(*about)
    except Exception:
        log.warning("not measured", exc_info=True)


def _measure(flow: Flow[R], name: str, meter: Meter) -> Flow[R]:
    begun, outcome = time.perf_counter(), "ok"
    try:
        step = next(flow)
        while True:
            try:
                reply = yield step
            except Exception as error:
                step = flow.throw(error)
            else:
                outcome = _look(step, reply, meter) or outcome
                step = flow.send(reply)
    except StopIteration as done:
        result: R = done.value
    except Exception as error:
        outcome = next((told for kind, told in OUTCOMES if isinstance(error, kind)), "error")
        if isinstance(error, LimitReachedError):
            tell(meter.limit, error.limit)
        tell(meter.operation, name, outcome, time.perf_counter() - begun)
        raise
    except BaseException:
        flow.close()  # cancelled, perhaps by the garbage collector while a meter holds its lock: it is told of nothing
        raise
    tell(meter.operation, name, outcome, time.perf_counter() - begun)
    return result


def _look(step: object, reply: object, meter: Meter) -> str | None:
    """What only a reply tells."""
    if isinstance(step, op.OpenSession) and isinstance(reply, op.Opened):
        return "mismatch" if reply.status is op.OpenStatus.MISMATCH else None
    if isinstance(step, op.Commit) and isinstance(reply, op.Registered) and reply.status == "ok":
        tell(meter.file, step.size)
    return None
