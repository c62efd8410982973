"""The next range of blocks, read while the ledger stores the one before it.

So a back-fill waits for the node or for the ledger, and not for one after the other. Invariants: one range is read
ahead, and only below the head; it counts only for the very question that the cursor leads to, so that its logs have
the checks of every other range; a failure decides nothing, for the question is asked again.
"""

from dataclasses import dataclass

from watcher.chain.page import Decoded, LogReader
from watcher.chain.rpc.calls import LogQuery
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.replies import LogPage
from watcher.errors import RetryElsewhere
from watcher.task import Header


@dataclass(frozen=True, slots=True)
class _Read:
    """A range that was read ahead, and the response window that its tasks have."""

    query: LogQuery
    window_blocks: int | None
    page: LogPage
    decoded: Decoded


class ReadAhead:
    """At most one range of blocks, and its logs as tasks and responses."""

    def __init__(self, nodes: NodePool, reader: LogReader) -> None:
        self._nodes = nodes
        self._reader = reader
        self._read: _Read | None = None

    async def read(self, query: LogQuery, head: Header) -> None:
        """Read a range that ends below `head`. A failure is ignored."""
        self._read = None
        window_blocks = self._reader.window_blocks
        try:
            page = await self._nodes.page(query, head)
            if page.continuous:
                decoded = await self._reader.read(page, at_once=False)
                self._read = _Read(query, window_blocks, page, decoded)
        except RetryElsewhere:
            pass  # the question that comes next reports it, or takes another range

    def take(self, query: LogQuery) -> tuple[LogPage, Decoded] | None:
        """Return the range that was read ahead, if it is that of `query`; None: it has to be read."""
        read, self._read = self._read, None
        if read is None or read.query != query or read.window_blocks != self._reader.window_blocks:
            return None
        return read.page, read.decoded
