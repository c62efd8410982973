"""Stage: read the same blocks again, once when they are confirmed and once when they are final.

A node may show a block before it has indexed all of its logs, and reply "none" in good faith. A later reading, from
another endpoint where there is one, finds the missing logs.
"""

from loguru import logger

from watcher.chain.page import LogReader
from watcher.chain.source import Source
from watcher.chain.span import Span
from watcher.chain.task_lines import SeenLines
from watcher.errors import NarrowRange
from watcher.ledger import rescan
from watcher.ledger.cursor import Cursor
from watcher.task import Header

# The least depth of the first pass: any indexer has caught up by then, even with fewer `confirmations`.
_DEPTH_MIN_BLOCKS = 3


class Recheck:
    """Follows the cursor at two distances."""

    name = "recheck"

    def __init__(
        self, source: Source, reader: LogReader, confirmations: int, max_span_blocks: int, idle_s: float
    ) -> None:
        """Set up the stage.

        Args:
            source: nodes, contract, ledger and clock.
            reader: decodes logs.
            confirmations: depth in blocks of the first pass, three at least.
            max_span_blocks: the longest range of blocks in one request.
            idle_s: the longest pause between two steps, in seconds.
        """
        self._source = source
        self._nodes = source.nodes
        self._contract = source.contract
        self._ledger = source.ledger
        self._reader = reader
        self._lines = SeenLines(source.clock)
        self._depth_blocks = max(confirmations, _DEPTH_MIN_BLOCKS)
        self._span = Span(max_span_blocks)
        self._idle_s = idle_s

    async def step(self) -> float:
        """Read one range of each pass. Return the seconds until the next step.

        Raises:
            RetryElsewhere: no endpoint answers.
        """
        cursor = await self._source.cursor()
        if cursor.hash is None or cursor.block < cursor.head_block:
            return self._rest_s  # the cursor goes first
        try:
            more = await self._rescan(cursor, rescan.FINAL, min(cursor.final_block, cursor.block), cursor.start_block)
            more |= await self._rescan(
                cursor,
                rescan.CONFIRMED,
                cursor.block - self._depth_blocks,
                max(cursor.final_block + 1, cursor.start_block),
            )
        except NarrowRange as refusal:
            self._span.narrow(refusal)
            return 0
        return 0 if more else self._rest_s

    @property
    def _rest_s(self) -> float:
        """The seconds until the blocks of a first pass are there: no single block wakes the stage."""
        return min(self._idle_s, self._depth_blocks * self._source.pace.block_s)

    async def _rescan(self, cursor: Cursor, name: str, upto: int, earliest: int) -> bool:
        """Read the next range of one pass. Return True if there is more to read at once."""
        rescanned_block = await self._ledger.read(rescan.rescanned_to, self._ledger.source_id, name)
        first = earliest if rescanned_block is None else max(rescanned_block + 1, earliest)
        last = min(upto, first + self._span.blocks - 1)
        if first > last:
            return False
        here = Header(cursor.block, cursor.hash or b"", b"")
        page = await self._nodes.second_page(self._contract.log_query(first, last, here))
        if not page.continuous:
            return False  # the watch is about to notice a reorg
        self._span.follow(last - first + 1, len(page.logs))
        decoded = await self._reader.read(page)
        tasks, responses = await self._ledger.write(
            rescan.record_rescan, self._ledger.source_id, name, decoded.tasks, decoded.responses, last
        )
        if tasks or responses:
            logger.warning(
                "chain.late_logs: a second reading of blocks shows logs that the first did not",
                first_block=first,
                last_block=last,
                tasks=len(tasks),
                responses=len(responses),
            )
        self._lines.seen(tasks, cursor.begun_block)
        return last < upto
