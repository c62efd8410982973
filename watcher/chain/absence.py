"""The evidence that a task or its response is absent, and the search for response events that no reading has shown.

A reading of zero is weak evidence: every empty cache gives it, too.

Invariant: no task ends by one reading of zero. It takes the same reading from `quorum` endpoints, or two readings at
different heights and `APART_S` seconds apart on the monotonic clock. A hash that differs and is not zero is evidence at
once.
"""

from collections.abc import Sequence
from dataclasses import replace

from watcher.clock import Clock
from watcher.ledger import absences, rescan
from watcher.ledger.cursor import Cursor
from watcher.ledger.store import Ledger
from watcher.task import Absence, Absent, Header, OpenTask

# Caches of providers and replicas that restart are empty for seconds. The deadline is past by then, and the end of such
# a task is not urgent.
APART_S = 6.0
# A task that is settled in another way leaves its entry behind: beyond so many, entries of this age are forgotten.
_MOST_MEASURED = 100_000
_FORGET_AFTER_S = 600.0


class AbsenceRule:
    """Keeps the first reading of zero in the ledger, and accepts the second.

    The time between both is measured on the monotonic clock, so a restart begins it anew: the wall clock may have been
    set forward meanwhile. `quorum`: the number of endpoints that gave each reading alike (`NodePool`).
    """

    def __init__(self, ledger: Ledger, clock: Clock, quorum: int) -> None:
        self._ledger = ledger
        self._clock = clock
        self._quorum = quorum
        self._since_s: dict[int, float] = {}  # by row, oldest first: the first reading of this process

    async def proven(self, tasks: Sequence[OpenTask], of: Absent, at: Header) -> list[OpenTask]:
        """Return the tasks that are proven absent. The others have their first reading recorded.

        The second reading of those is due one block and `APART_S` later.

        Args:
            tasks: the tasks with a reading of zero at `at`.
            of: the subject of the reading: the task, its response or its event.
            at: the block of the reading.
        """
        if self._quorum > 1 or not tasks:
            return list(tasks)
        now_ms, now_s = self._clock.now_ms(), self._clock.monotonic_s()
        self._forget(now_s - _FORGET_AFTER_S)
        proven, waiting = [], []
        for task in tasks:
            first = _first(task, of, at, now_ms)
            since_s = self._measured_from(task, now_s, is_first=first != task.absence)
            if at.number > first.block_number and now_s - since_s >= APART_S:
                proven.append(task)
                del self._since_s[task.row_id]
            else:
                waiting.append(replace(task, absence=first))
        await self._ledger.write(absences.record, waiting, round(APART_S * 1000), at.number + 1)
        return proven

    def _measured_from(self, task: OpenTask, now_s: float, *, is_first: bool) -> float:
        """Return when this process took the first reading of the task; now, where this reading is the first."""
        if is_first:
            self._since_s.pop(task.row_id, None)
        return self._since_s.setdefault(task.row_id, now_s)

    def _forget(self, before_s: float) -> None:
        while len(self._since_s) > _MOST_MEASURED and next(iter(self._since_s.values())) < before_s:
            del self._since_s[next(iter(self._since_s))]


def _first(task: OpenTask, of: Absent, at: Header, now_ms: int) -> Absence:
    """Return the first reading: the recorded one; this one if none is recorded, or the clock stepped back since."""
    kept = task.absence
    if kept is None or kept.of is not of or kept.at_ms > now_ms or kept.block_number > at.number:
        return Absence(of, at.number, now_ms)
    return kept


class EventSearch:
    """Sends the second reading of final blocks back to where the missing events may be."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    async def run(self, tasks: Sequence[OpenTask], cursor: Cursor) -> None:
        """Have the logs read again for tasks that the contract calls answered, and whose event is missing.

        The reading of final blocks goes back to the task's own block once it has passed the block at which the response
        was there, and not again before it has reached the present head: no search cuts another search short.
        """
        if not tasks:
            return
        rescanned_block = await self._ledger.read(rescan.rescanned_to, self._ledger.source_id, rescan.FINAL)
        now_ms, head_block = self._clock.now_ms(), cursor.head_block
        overdue: list[OpenTask] = []
        noted: list[OpenTask] = []
        for task in tasks:
            absence = task.absence
            if absence is None or absence.of is not Absent.EVENT:
                absence = Absence(Absent.EVENT, head_block, now_ms)
            if rescanned_block is not None and rescanned_block >= absence.block_number:
                overdue.append(task)
                absence = Absence(Absent.EVENT, head_block, now_ms)
            noted.append(replace(task, absence=absence))
        # Due at the block after the head known then: an event that was read meanwhile came with it, and counts now.
        await self._ledger.write(absences.record, noted, 0, head_block + 1)
        if overdue:
            first_block = min(task.task.seen_at.block_number for task in overdue)
            await self._ledger.write(rescan.request_rescan, self._ledger.source_id, rescan.FINAL, first_block)
