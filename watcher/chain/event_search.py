"""The search for response events that the contract proves, and that no look at the logs has shown."""

from collections.abc import Sequence
from dataclasses import replace

from watcher.clock import Clock
from watcher.ledger import absences, rescan
from watcher.ledger.source import Cursor
from watcher.ledger.store import Ledger
from watcher.task import Absence, Absent, OpenTask


class EventSearch:
    """Sends the look at final blocks back to where the missing events may be."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    async def run(self, held: Sequence[OpenTask], cursor: Cursor) -> None:
        """Read the logs again for tasks that the contract calls answered, where every look so far missed the event.

        Once the look at finality has passed the block at which the response was there, it goes back to the task's own
        block; and not again before it has reached the present head, so that no search cuts another one short.
        """
        if not held:
            return
        reached = await self._ledger.read(rescan.reached, self._ledger.source_id, rescan.FINAL)
        now_ms, head_block = self._clock.now_ms(), cursor.head_block
        overdue: list[OpenTask] = []
        noted: list[OpenTask] = []
        for task in held:
            absence = task.absence
            if absence is None or absence.of is not Absent.EVENT:
                absence = Absence(Absent.EVENT, head_block, now_ms)
            if reached is not None and reached >= absence.block_number:
                overdue.append(task)
                absence = Absence(Absent.EVENT, head_block, now_ms)
            noted.append(replace(task, absence=absence))
        # The block after the one known then: an event read meanwhile came with it, and is looked at now.
        await self._ledger.write(absences.record, noted, 0, head_block + 1)
        if overdue:
            first_block = min(task.task.seen_at.block_number for task in overdue)
            await self._ledger.write(rescan.repeat, self._ledger.source_id, rescan.FINAL, first_block)
