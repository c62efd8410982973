"""The search for response events that the contract proves, and that no reading of the logs has shown."""

from collections.abc import Sequence
from dataclasses import replace

from watcher.clock import Clock
from watcher.ledger import absences, rescan
from watcher.ledger.source import Cursor
from watcher.ledger.store import Ledger
from watcher.task import Absence, Absent, OpenTask


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
        reached = await self._ledger.read(rescan.rescanned_to, self._ledger.source_id, rescan.FINAL)
        now_ms, head_block = self._clock.now_ms(), cursor.head_block
        overdue: list[OpenTask] = []
        noted: list[OpenTask] = []
        for task in tasks:
            absence = task.absence
            if absence is None or absence.of is not Absent.EVENT:
                absence = Absence(Absent.EVENT, head_block, now_ms)
            if reached is not None and reached >= absence.block_number:
                overdue.append(task)
                absence = Absence(Absent.EVENT, head_block, now_ms)
            noted.append(replace(task, absence=absence))
        # Due at the block after the head known then: an event that was read meanwhile came with it, and counts now.
        await self._ledger.write(absences.record, noted, 0, head_block + 1)
        if overdue:
            first_block = min(task.task.seen_at.block_number for task in overdue)
            await self._ledger.write(rescan.request_rescan, self._ledger.source_id, rescan.FINAL, first_block)
