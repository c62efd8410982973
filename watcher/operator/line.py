"""The line of cleared tasks before the slots, nearest deadline first, and the age at which a verdict expires."""

import heapq
import itertools
from collections.abc import Iterable

from watcher.clock import Clock
from watcher.ledger.store import Ledger
from watcher.operator.post import Cleared
from watcher.task import OpenTask

# A verdict is used for so long, if the head it speaks of is still the present one.
_VERDICT_S = 5.0
# A verdict that has just arrived is used although the head has moved on: where blocks come faster than readings, no
# verdict would ever be new enough.
_JUST_READ_S = 0.25


class Freshness:
    """The rule by which a verdict may still be used."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def holds(self, cleared: Cleared) -> bool:
        """Return True if the verdict is seconds old at most, and of the present head, or has just been read."""
        age_s = self._clock.monotonic_s() - cleared.read_s
        return age_s <= _JUST_READ_S or (age_s <= _VERDICT_S and cleared.chain_moves == self._ledger.chain_moves)


class Line:
    """The cleared tasks that wait for a slot. The ledger holds each of them under a lease.

    One whose lease ran out here, as while the process was stopped, may come a second time: the ledger begins an attempt
    only of the one with the present fence.
    """

    def __init__(self, freshness: Freshness) -> None:
        self._freshness = freshness
        self._heap: list[tuple[tuple[float, int, int, int], Cleared]] = []
        self._count = itertools.count()
        self._expired: list[OpenTask] = []

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def has_some(self) -> bool:
        """Return True if tasks wait here: for a slot, or for another verdict."""
        return bool(self._heap or self._expired)

    def add(self, cleared: Iterable[Cleared]) -> None:
        """Put tasks into the line, at the places that their deadlines give them."""
        for entry in cleared:
            heapq.heappush(self._heap, ((*_place(entry.task), next(self._count)), entry))

    def take(self, count: int) -> list[Cleared]:
        """Take up to `count` tasks from the front. Those whose verdict has expired leave the line, too."""
        taken: list[Cleared] = []
        while self._heap and len(taken) < count:
            _, entry = heapq.heappop(self._heap)
            if self._freshness.holds(entry):
                taken.append(entry)
            else:
                self._expired.append(entry.task)
        return taken

    def take_expired(self) -> list[OpenTask]:
        """Take the tasks whose verdict `take` has found expired: they need another one."""
        expired, self._expired = self._expired, []
        return expired

    def take_all(self) -> list[OpenTask]:
        """Empty the line."""
        tasks = [entry.task for _, entry in self._heap] + self.take_expired()
        self._heap.clear()
        return tasks


def _place(task: OpenTask) -> tuple[float, int, int]:
    deadline = task.task.deadline_block
    return (float("inf") if deadline is None else deadline, task.task.task_index, task.row_id)
