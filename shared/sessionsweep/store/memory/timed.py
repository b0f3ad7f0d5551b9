"""What is ordered by time: members that each have a moment, and the timing wheel."""

from __future__ import annotations

import heapq
from collections import deque
from typing import Generic, TypeVar

M = TypeVar("M", str, tuple[str, str])


class TimedSet(Generic[M]):
    """Members, each with one moment (ms); in order of moment, then member, like a sorted set in Redis.

    The heap keeps superseded places until they surface, because moving a member inside a heap costs a search;
    it is rebuilt when they outnumber the members, so its size stays proportional to theirs.
    """

    __slots__ = ("_heap", "times")

    def __init__(self) -> None:
        self.times: dict[M, int] = {}
        self._heap: list[tuple[int, M]] = []

    def put(self, member: M, moment: int) -> None:
        """Sets the member's moment."""
        if self.times.get(member) == moment:
            return
        self.times[member] = moment
        if len(self._heap) > 2 * len(self.times) + 64:
            self._heap = [(when, who) for who, when in self.times.items()]
            heapq.heapify(self._heap)
        else:
            heapq.heappush(self._heap, (moment, member))

    def put_earlier(self, member: M, moment: int) -> None:
        """Sets the member's moment unless it has an earlier one."""
        was = self.times.get(member)
        if was is None or moment < was:
            self.put(member, moment)

    def remove(self, member: M) -> None:
        """Takes the member out, if it is in."""
        self.times.pop(member, None)

    def earliest(self) -> tuple[int, M] | None:
        """The first moment and its member."""
        heap, times = self._heap, self.times
        while heap:
            moment, member = heap[0]
            if times.get(member) == moment:
                return heap[0]
            heapq.heappop(heap)
        return None

    def take_until(self, moment: int) -> M | None:
        """Removes and answers the first member whose moment is not after `moment`."""
        first = self.earliest()
        if first is None or first[0] > moment:
            return None
        heapq.heappop(self._heap)
        del self.times[first[1]]
        return first[1]

    def ordered(self) -> list[M]:
        """All members in order."""
        return sorted(self.times, key=lambda member: (self.times[member], member))


class Slot:
    """One slot of the wheel: its end (ms) and the ids filed in it, oldest first."""

    __slots__ = ("end", "ids")

    def __init__(self, end: int) -> None:
        self.end = end
        self.ids: deque[str] = deque()


class Wheel:
    """When to look at which session: a queue of ids per slot, and the slots' ends in order.

    A lower bound only: touching a session moves nothing; who looks at a slot reads the sessions themselves.
    """

    __slots__ = ("_ends", "slots")

    def __init__(self) -> None:
        self.slots: dict[int, Slot] = {}
        self._ends: list[int] = []

    @staticmethod
    def slot_end(due: int, width: int) -> int:
        """The end of the slot, `width` ms wide, in which something due then is filed."""
        return -(-due // width) * width

    def file(self, session_id: str, due: int, width: int) -> int:
        """Files an id; answers the slot's end (one int object per slot, because every session keeps it)."""
        end = -(-due // width) * width
        slot = self.slots.get(end)
        if slot is None:
            slot = self.slots[end] = Slot(end)
            heapq.heappush(self._ends, end)
        slot.ids.append(session_id)
        return slot.end

    def head(self) -> Slot | None:
        """The slot that ends first, without those that have been emptied."""
        while self._ends:
            slot = self.slots.get(self._ends[0])
            if slot is not None and slot.ids:
                return slot
            self.slots.pop(heapq.heappop(self._ends), None)
        return None
