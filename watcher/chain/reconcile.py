"""Housekeeping: compare the indices we know with the contract's own count, and fetch what is missing by its topic.

The contract numbers tasks without gaps, so that a hole is proof of a log some node withheld.
"""

from collections.abc import Iterable

from loguru import logger

from watcher.chain.contract import TaskManager
from watcher.chain.watch import Watch
from watcher.ledger import ingest, queries
from watcher.ledger.source import Cursor, note_event
from watcher.ledger.store import Ledger
from watcher.once import Lasting
from watcher.task import Header, Task
from watcher.text import shorten_list

# More holes than this at once are a wrong start block or a lost ledger rather than lost logs.
_REPAIRS_PER_PASS = 200
_CHUNK = 10_000
# Where no task is known yet, all blocks are searched for the newest one: once, and then every so many passes.
_PASSES_BETWEEN = 60
_NAMED = 20


class Reconcile:
    """One pass over the indices between the first task since the start block and the contract's next index."""

    def __init__(self, contract: TaskManager, watch: Watch, ledger: Ledger) -> None:
        self._contract = contract
        self._watch = watch
        self._ledger = ledger
        self._barren_below: int | None = None  # nothing was found below this index
        self._passes_since = 0
        self._hidden: Lasting[int] = Lasting()
        self._beyond: Lasting[int] = Lasting()

    async def run(self) -> int:
        """Repair the holes below the cursor, and tell those that stay. Returns how many tasks were found.

        Raises RetryElsewhere when no node can say.
        """
        cursor = await self._ledger.read(queries.cursor, self._ledger.source_id)
        if cursor.hash is None or not self._contract.counts_tasks:
            return 0
        at = Header(cursor.block, cursor.hash, b"")
        count = await self._contract.latest_task_num(at)
        holes = await self._holes(await self._first(cursor, at, count), count)
        found = [task for index in holes for task in await self._fetch(index, cursor)]
        if found:
            await self._keep(found, cursor.block)
        await self._tell_lasting({*holes} - {task.task_index for task in found}, count, cursor.block)
        return len(found)

    async def _first(self, cursor: Cursor, at: Header, count: int) -> int:
        """The index of the first task that is ours to know; the contract's count where there is none yet."""
        lowest = await self._ledger.read(queries.lowest, self._ledger.source_id)
        barren = self._barren_below if lowest is None and self._passes_since < _PASSES_BETWEEN else None
        if barren is not None and barren <= count:  # with fewer, the chain has gone back and begins anew below
            self._passes_since += 1
            return barren
        first = await self._contract.first_index(cursor.start_block, at, lowest)
        self._barren_below = first if lowest is None else None
        self._passes_since = 0
        return first

    async def _keep(self, found: list[Task], block: int) -> None:
        await self._ledger.write(ingest.store_tasks, self._ledger.source_id, found)
        words = _named([task.task_index for task in found])
        await self._ledger.write(
            note_event, self._ledger.source_id, "holes repaired", block, f"tasks {words} had been missed"
        )
        logger.warning("found {} tasks that no node had shown before: {}", len(found), words)

    async def _tell_lasting(self, holes: set[int], count: int, block: int) -> None:
        hidden, _ = self._hidden.update(holes)
        if hidden:
            words = f"the contract counts tasks {_named(hidden)}, and no node has a log of them that can be read"
            await self._tell(words, block)
        more = await self._ledger.read(queries.canonical_from, self._ledger.source_id, count, _REPAIRS_PER_PASS)
        beyond, _ = self._beyond.update({*more})
        if beyond:
            number = count - self._contract.lowest_index
            await self._tell(f"the contract counts {number} tasks, and the ledger holds tasks {_named(beyond)}", block)

    async def _tell(self, words: str, block: int) -> None:
        logger.warning("{}", words)
        await self._ledger.write(note_event, self._ledger.source_id, "count differs", block, words)

    async def _holes(self, first: int, count: int) -> list[int]:
        holes: list[int] = []
        if first >= count:
            return holes
        if await self._ledger.read(queries.known_count, self._ledger.source_id, first, count - 1) == count - first:
            return holes
        for low in range(first, count, _CHUNK):
            high = min(low + _CHUNK, count) - 1
            known = await self._ledger.read(queries.known_indices, self._ledger.source_id, low, high)
            if len(known) < high - low + 1:
                holes += [index for index in range(low, high + 1) if index not in known]
            if len(holes) >= _REPAIRS_PER_PASS:
                break
        return holes[:_REPAIRS_PER_PASS]

    async def _fetch(self, index: int, cursor: Cursor) -> list[Task]:
        """Its log lies between those of its neighbours: indices come in the order of the blocks."""
        below, above = await self._ledger.read(queries.neighbours, self._ledger.source_id, index)
        first = cursor.start_block if below is None else max(below.block_number, cursor.start_block)
        last = cursor.block if above is None else min(above.block_number, cursor.block)
        tasks, _, refused = self._watch.decoded(await self._contract.find_created(index, first, last))
        for log, why in refused:
            logger.bind(task=index).warning("its log in block {} cannot be decoded: {}", log.block_number, why)
        return tasks


def _named(indices: Iterable[int]) -> str:
    return shorten_list(sorted(indices), _NAMED)
