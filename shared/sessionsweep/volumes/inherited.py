"""Descriptors that hold a lock, and how a forked child lets go of them.

A lock of flock(2) belongs to the open file description, which a forked child shares: a child that lives on
would keep a file busy long after its writer has closed it, or keep a volume taken after its owner died. So
the child closes them at once. That doesn't unlock the parent's.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Lettable(Protocol):
    """What holds a lock's descriptor."""

    def let_go(self) -> None:
        """Close the descriptor in a forked child, without writing or unlocking anything."""


_held: weakref.WeakSet[Lettable] = weakref.WeakSet()


def register(holder: Lettable) -> None:
    """Have `holder` let go of its descriptor in every child forked from now on."""
    _held.add(holder)


def abandon(kind: type) -> None:
    """Have all holders of that kind let go now, as their process's death would: for tests of crashes."""
    for holder in [holder for holder in _held if isinstance(holder, kind)]:
        holder.let_go()
        _held.discard(holder)


def _in_child() -> None:
    for holder in list(_held):
        holder.let_go()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
