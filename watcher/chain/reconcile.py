"""A periodic job: compare the known indices with the contract's own count, and fetch missing tasks by their topic.

The contract numbers tasks without gaps, so a hole proves that a node withheld a log.
"""

from collections.abc import Iterable, Sequence

from loguru import logger

from watcher.chain.page import LogReader
from watcher.chain.source import Source
from watcher.chain.task_lines import SeenLines
from watcher.ledger import by_index, coverage, ingest
from watcher.ledger.cursor import Cursor
from watcher.ledger.source import note_event
from watcher.once import Lasting
from watcher.task import Header, Task
from watcher.text import shorten_list

# More holes than this at once mean a wrong start block or a lost ledger rather than lost logs.
_REPAIRS_PER_PASS = 200
_CHUNK = 10_000
# While no task is known, all blocks are searched for the newest task in every so many passes.
_PASSES_BETWEEN = 60
_NAMED = 20


class Reconcile:
    """One pass over the indices between the first task since the start block and the contract's next index."""

    def __init__(self, source: Source, reader: LogReader) -> None:
        self._source = source
        self._contract = source.contract
        self._ledger = source.ledger
        self._reader = reader
        self._lines = SeenLines(source.clock)
        self._barren_below: int | None = None  # no task is below this index
        self._checked_below = 0  # the covered indices below this one have been read again
        self._passes_since = 0
        self._hidden: Lasting[int] = Lasting()
        self._beyond: Lasting[int] = Lasting()

    async def run(self) -> int:
        """Repair the holes below the cursor, and report those that stay. Return the number of tasks recovered.

        Raises:
            RetryElsewhere: no endpoint answers.
        """
        cursor = await self._source.cursor()
        if cursor.hash is None or not self._contract.counts_tasks:
            return 0
        at = Header(cursor.block, cursor.hash, b"")
        next_index = await self._contract.latest_task_num(at)
        holes = await self._holes(await self._first(cursor, at, next_index), next_index)
        recovered = [task for index in holes for task in await self._fetch(index, cursor)]
        if recovered:
            await self._keep(recovered, cursor)
        lasting = {*holes} - {task.task_index for task in recovered}
        await self._report_lasting(lasting, next_index, cursor.block)
        return len(recovered)

    async def _first(self, cursor: Cursor, at: Header, next_index: int) -> int:
        """Return the index of the first task since the start block; `next_index` where there is none yet."""
        lowest = await self._ledger.read(by_index.lowest, self._ledger.source_id)
        barren = self._barren_below if lowest is None and self._passes_since < _PASSES_BETWEEN else None
        if barren is not None and barren <= next_index:  # a lower count means a reorg, and a new search below
            self._passes_since += 1
            return barren
        first = await self._contract.first_index(cursor.start_block, at, lowest)
        self._barren_below = first if lowest is None else None
        self._passes_since = 0
        return first

    async def _keep(self, recovered: Sequence[Task], cursor: Cursor) -> None:
        new = await self._ledger.write(ingest.store_tasks, self._ledger.source_id, recovered)
        indices = _named(task.task_index for task in recovered)
        await self._ledger.write(
            note_event, self._ledger.source_id, "holes repaired", cursor.block, f"tasks {indices} had been missed"
        )
        logger.warning(
            "chain.tasks_recovered: tasks were found that no node had shown before",
            count=len(recovered),
            tasks=indices,
        )
        self._lines.seen(new, cursor.begun_block)

    async def _report_lasting(self, holes: set[int], next_index: int, block: int) -> None:
        hidden, _ = self._hidden.update(holes)
        if hidden:
            indices = _named(hidden)
            logger.warning(
                "chain.tasks_hidden: no node has a readable log of tasks that the contract counts", tasks=indices
            )
            await self._note(
                f"the contract counts tasks {indices}, and no node has a log of them that can be read", block
            )
        more = await self._ledger.read(by_index.canonical_from, self._ledger.source_id, next_index, _REPAIRS_PER_PASS)
        beyond, _ = self._beyond.update({*more})
        if beyond:
            count, indices = next_index - self._contract.lowest_index, _named(beyond)
            logger.warning(
                "chain.count_exceeded: the ledger holds tasks that the contract does not count",
                count=count,
                tasks=indices,
            )
            await self._note(f"the contract counts {count} tasks, and the ledger holds tasks {indices}", block)

    async def _note(self, message: str, block: int) -> None:
        await self._ledger.write(note_event, self._ledger.source_id, "count differs", block, message)

    async def _holes(self, first: int, next_index: int) -> list[int]:
        holes: list[int] = []
        if first >= next_index:
            return holes
        source_id = self._ledger.source_id
        await self._check_covered(first)
        before = await self._ledger.read(coverage.covered, source_id, first)
        for low in range(before.next_index, next_index, _CHUNK):
            high = min(low + _CHUNK, next_index) - 1
            known = await self._ledger.read(by_index.known_indices, source_id, low, high)
            if len(known) < high - low + 1:
                holes += [index for index in range(low, high + 1) if index not in known]
            if len(holes) >= _REPAIRS_PER_PASS:
                break
        upto = holes[0] if holes else next_index
        if upto > before.next_index:
            await self._ledger.write(coverage.extend, source_id, first, upto, before.losses)
        return holes[:_REPAIRS_PER_PASS]

    async def _check_covered(self, first: int) -> None:
        """Read one chunk of the covered indices again, another one in each pass: a row can vanish from the database."""
        source_id = self._ledger.source_id
        covered = await self._ledger.read(coverage.covered, source_id, first)
        low = self._checked_below if first <= self._checked_below < covered.next_index else first
        self._checked_below = high = min(low + _CHUNK, covered.next_index)
        if low == high:
            return
        known = await self._ledger.read(by_index.known_indices, source_id, low, high - 1)
        if len(known) < high - low:
            vanished = next(index for index in range(low, high) if index not in known)
            await self._ledger.write(coverage.lose, source_id, vanished)

    async def _fetch(self, index: int, cursor: Cursor) -> list[Task]:
        """Return the task of an index. Its log is between those of its neighbours: indices rise with the blocks."""
        below, above = await self._ledger.read(by_index.neighbours, self._ledger.source_id, index)
        first = cursor.start_block if below is None else max(below.block_number, cursor.start_block)
        last = cursor.block if above is None else min(above.block_number, cursor.block)
        tasks, _, refused = self._reader.decode(await self._contract.find_created(index, first, last))
        for log, reason in refused:
            logger.warning(
                "task.undecodable: the log of a missing task cannot be decoded",
                task=index,
                block=log.block_number,
                reason=reason,
            )
        return tasks


def _named(indices: Iterable[int]) -> str:
    return shorten_list(sorted(indices), _NAMED)
