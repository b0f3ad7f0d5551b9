"""One seed for everything that a schedule does not decide itself: ids, secrets, jitter, and the clocks."""

from __future__ import annotations

import contextlib
import logging
import random
import secrets
import types
from collections.abc import Iterator
from typing import Any
from unittest import mock

from sessionsweep.engine import orphans, pace, reclaim, sweep, trust

T0 = 1_800_000_000_000  # ms; when every schedule begins

#: The product's constants, made so small that a schedule of a few sessions passes each of them.
SMALL: list[tuple[Any, str, int]] = [
    (orphans, "CAP_FLOOR", 3),  # candidates
    (reclaim, "SLICE", 1),  # sessions between two looks at the lease
    (sweep, "BATCH", 2),  # sessions a step
    (trust, "ROLLED_BACK", 30_000),  # ms
]


class Clock:
    """The server's clock and the nodes' monotonic one: they move together, unless the server's jumps."""

    def __init__(self) -> None:
        self.now = T0
        self.monotonic = 1000.0

    def advance(self, milliseconds: int) -> None:
        """Time passes everywhere."""
        self.now += milliseconds
        self.monotonic += milliseconds / 1000

    def jump(self, milliseconds: int) -> None:
        """The server's clock is set, forward or back."""
        self.now += milliseconds

    def read(self) -> int:
        """The server's time, ms."""
        return self.now


@contextlib.contextmanager
def seeded(seed: str, clock: Clock) -> Iterator[random.Random]:
    """Everything in this process that asks for chance gets it from `seed`; passes measure their time by `clock`.

    What the product warns of is not shown: a schedule has hundreds of faults that it must warn of.
    """
    ids = random.Random(f"{seed} ids")
    state = random.getstate()
    random.seed(f"{seed} jitter")
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    patches: list[contextlib.AbstractContextManager[object]] = [
        mock.patch.object(secrets, "token_bytes", lambda n=32: ids.randbytes(n)),
        mock.patch.object(secrets, "token_hex", lambda n=16: ids.randbytes(n).hex()),
        mock.patch.object(secrets, "token_urlsafe", lambda n=32: ids.randbytes(n).hex()[:43]),
        mock.patch.object(secrets, "randbelow", ids.randrange),
        mock.patch.object(pace, "time", types.SimpleNamespace(monotonic=lambda: clock.monotonic)),
        *(mock.patch.object(module, name, value) for module, name, value in SMALL),
    ]
    try:
        with contextlib.ExitStack() as stack:
            for patch in patches:
                stack.enter_context(patch)
            yield random.Random(f"{seed} schedule")
    finally:
        logging.disable(disabled)
        random.setstate(state)
