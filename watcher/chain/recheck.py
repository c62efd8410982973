"""Stage: look at the same blocks again, once when they are confirmed and once when they are final.

A node may show a block before it has indexed all of its logs, and answer "none" in good faith. What the first look
missed is found by a later one, from another endpoint where there is one.
"""

from loguru import logger

from watcher.chain.contract import TaskManager
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.watch import Watch
from watcher.errors import NarrowRange
from watcher.ledger import queries, rescan
from watcher.ledger.source import Cursor
from watcher.ledger.store import Ledger
from watcher.task import Header

# Deep enough for any indexer to have caught up, where `confirmations` is less.
_DEPTH_MIN_BLOCKS = 3


class Recheck:
    """Follows the cursor at two distances."""

    name = "recheck"

    def __init__(
        self,
        nodes: NodePool,
        contract: TaskManager,
        watch: Watch,
        ledger: Ledger,
        confirmations: int,
        max_span_blocks: int,
        idle_s: float,
    ) -> None:
        self._nodes = nodes
        self._contract = contract
        self._watch = watch
        self._ledger = ledger
        self._depth_blocks = max(confirmations, _DEPTH_MIN_BLOCKS)
        self._max_span_blocks = max_span_blocks
        self._span = max_span_blocks
        self._idle_s = idle_s

    async def step(self) -> float:
        """Look at one range of each pass. Returns the seconds until the next look."""
        cursor = await self._ledger.read(queries.cursor, self._ledger.source_id)
        if cursor.hash is None or cursor.block < cursor.head_block:
            return self._idle_s  # the first look comes first
        try:
            more = await self._look(cursor, rescan.FINAL, min(cursor.final_block, cursor.block), cursor.start_block)
            more |= await self._look(
                cursor,
                rescan.CONFIRMED,
                cursor.block - self._depth_blocks,
                max(cursor.final_block + 1, cursor.start_block),
            )
        except NarrowRange:
            self._span = max(1, self._span // 2)
            return 0
        self._span = min(self._span * 2, self._max_span_blocks)
        return 0 if more else self._idle_s

    async def _look(self, cursor: Cursor, name: str, upto: int, earliest: int) -> bool:
        """Read the next range of one pass. Returns whether there is more to read at once."""
        reached = await self._ledger.read(rescan.reached, self._ledger.source_id, name)
        first = earliest if reached is None else max(reached + 1, earliest)
        last = min(upto, first + self._span - 1)
        if first > last:
            return False
        here = Header(cursor.block, cursor.hash or b"", b"")
        page = await self._nodes.second_page(
            self._contract.emitters, self._contract.convention.topics0, first, last, here
        )
        if not page.continuous:
            return False  # a reorg is about to be noticed
        found = await self._watch.read(page)
        new = await self._ledger.write(rescan.look, self._ledger.source_id, name, found.tasks, found.responses, last)
        if new:
            logger.warning("{} logs in blocks {} to {} had been missed by the first look", new, first, last)
        return last < upto
