"""Housekeeping: compare the indices we know with the contract's own count, and fetch what is missing by its topic.

The contract numbers tasks without gaps, so that a hole is proof of a log some node withheld.
"""

from loguru import logger

from watcher.chain.contract import TaskManager
from watcher.chain.watch import Watch
from watcher.ledger import intake, reading
from watcher.ledger.book import Book
from watcher.ledger.source import note_event
from watcher.task import Header, Task

# More holes than this at once are a wrong start block or a lost ledger rather than lost logs.
_REPAIRS_PER_PASS = 200
_CHUNK = 10_000


class Reconcile:
    """One pass over the indices between the first task since the start block and the contract's count."""

    def __init__(self, contract: TaskManager, watch: Watch, book: Book) -> None:
        self._contract = contract
        self._watch = watch
        self._book = book

    async def run(self) -> int:
        """Repair the holes below the cursor. Returns how many tasks were found.

        Raises RetryElsewhere when no node can say.
        """
        cursor = await self._book.ask(reading.cursor, self._book.source_id)
        if cursor.hash is None or not self._contract.counts_tasks:
            return 0
        at = Header(cursor.block, cursor.hash, b"")
        count = await self._contract.latest_task_num(at)
        lowest = await self._book.ask(reading.lowest_index, self._book.source_id)
        first = await self._contract.first_index(cursor.start_block, at, lowest)
        holes = await self._holes(first, count)
        found = [task for index in holes for task in await self._fetch(index, cursor.start_block, cursor.block)]
        if found:
            await self._book.do(intake.store_tasks, self._book.source_id, found)
            words = ", ".join(str(task.task_index) for task in found[:20])
            await self._book.do(
                note_event,
                self._book.source_id,
                "holes repaired",
                cursor.block,
                f"tasks {words} had been missed",
            )
            logger.warning("found {} tasks that no node had shown before: {}", len(found), words)
        return len(found)

    async def _holes(self, first: int, count: int) -> list[int]:
        holes: list[int] = []
        for low in range(first, count, _CHUNK):
            high = min(low + _CHUNK, count) - 1
            known = await self._book.ask(reading.known_indices, self._book.source_id, low, high)
            if len(known) < high - low + 1:
                holes += [index for index in range(low, high + 1) if index not in known]
            if len(holes) >= _REPAIRS_PER_PASS:
                break
        return holes[:_REPAIRS_PER_PASS]

    async def _fetch(self, index: int, start_block: int, upto: int) -> list[Task]:
        logs = await self._contract.find_created(index, start_block, upto)
        tasks, _, refused = self._watch.decoded(logs)
        for log, why in refused:
            logger.bind(task=index).warning("its log in block {} cannot be decoded: {}", log.block_number, why)
        return tasks
