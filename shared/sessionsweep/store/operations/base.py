"""What every operation is."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

R = TypeVar("R", covariant=True)


class Operation(Generic[R]):
    """One atomic step of the store. `R` is what it answers."""

    __slots__ = ()
    #: safe to send again when the connection was cut before the reply (rule "Retries")
    repeatable: ClassVar[bool] = False
