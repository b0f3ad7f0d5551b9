"""How an operation becomes one atomic step: which locks it takes, and when it reads the clock."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from sessionsweep.store.memory.state import Partition, State

R = TypeVar("R")
O_session = TypeVar("O_session", bound="_AboutSession", contravariant=True)
O_partition = TypeVar("O_partition", bound="_AboutPartition", contravariant=True)
O_any = TypeVar("O_any")

#: What the store calls: the whole state and the operation; answers its reply.
Step = Callable[[State, Any], Any]


class _AboutSession(Protocol):
    @property
    def session_id(self) -> str: ...


class _AboutPartition(Protocol):
    @property
    def partition(self) -> str: ...


def session_step(
    step: Callable[[State, Partition, O_session, int], R],
) -> Callable[[State, O_session], R]:
    """A step on one session: under its partition's lock and its stripe; `now` is read when both are held."""

    @functools.wraps(step)
    def locked(state: State, operation: O_session) -> R:
        partition = state.partition(operation.session_id[:2])
        with partition.lock, state.stripe(operation.session_id):
            return step(state, partition, operation, state.clock.now())

    return locked


def partition_step(
    step: Callable[[State, Partition, O_partition, int], R],
) -> Callable[[State, O_partition], R]:
    """A step on a partition: under its lock. Live sessions are guarded one by one with their stripes."""

    @functools.wraps(step)
    def locked(state: State, operation: O_partition) -> R:
        partition = state.partition(operation.partition)
        with partition.lock:
            return step(state, partition, operation, state.clock.now())

    return locked


def common_step(step: Callable[[State, O_any, int], R]) -> Callable[[State, O_any], R]:
    """A step on what belongs to no partition."""

    @functools.wraps(step)
    def locked(state: State, operation: O_any) -> R:
        with state.common:
            return step(state, operation, state.clock.now())

    return locked
