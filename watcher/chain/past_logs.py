"""The logs of a contract's past, read once more for a proof, with windows, times and senders.

Invariant: a question that no node answers is None and raises nothing, for the proof says what it could not check.
"""

from collections.abc import Collection, Sequence
from typing import TypeVar

from watcher.chain.contract import TaskManager
from watcher.chain.page import LogReader
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.span import Span
from watcher.errors import NarrowRange, RetryElsewhere
from watcher.task import Responded, Task

T = TypeVar("T")

# A long proof asks thousands of questions: a node that fails for a moment must not end the reading.
_RETRY_AFTER_S = (1.0, 3.0)
_TIMES_AT_ONCE = 50
_SENDERS_AT_ONCE = 20  # a transaction may be 128 KiB long


class PastLogs:
    """What the nodes show of a contract's past. Once no node shows logs, also after a pause, none are asked for."""

    def __init__(self, contract: TaskManager, nodes: NodePool, chain_id: int, max_span_blocks: int) -> None:
        """Keep the parts; `max_span_blocks` is the longest range in one request."""
        self._contract = contract
        self._nodes = nodes
        self._reader = LogReader(contract, chain_id, None)
        self._span = Span(max_span_blocks)
        self._is_silent = False
        self.requests = 0

    @property
    def span_blocks(self) -> int:
        """The present length of the range in one request."""
        return self._span.blocks

    @property
    def has_window(self) -> bool:
        """True where deadlines follow from a response window, of the contract or of the settings."""
        return self.shows_window or self._contract.convention.window_blocks is not None

    @property
    def shows_window(self) -> bool:
        """True where the contract itself shows the window."""
        return self._contract.convention.response_window is not None

    async def read(self, first: int, last: int) -> tuple[list[Task], list[Responded]] | None:
        """Return tasks and responses of the blocks `first` to `last`; None if no node shows them.

        The tasks have the deadline of their log, and none by the contract's response window.
        """
        tasks, responses = list[Task](), list[Responded]()
        retries = iter(_RETRY_AFTER_S)
        low = first
        while low <= last and not self._is_silent:
            high = min(last, low + self._span.blocks - 1)
            self.requests += 1
            try:
                page = await self._nodes.page(self._contract.log_query(low, high))
            except NarrowRange as refusal:
                if low == high:
                    return None  # a single block is too much for the node
                self._span.narrow(refusal)
                continue
            except RetryElsewhere:
                await self._rest(next(retries, None))
                continue
            self._span.widen()
            made, answers, _ = self._reader.decode(page.logs)
            tasks += made
            responses += answers
            low = high + 1
        return None if self._is_silent else (tasks, responses)

    async def find(self, index: int, first: int, last: int) -> list[Task]:
        """Return the tasks with an index in a range of blocks; none where the index is no topic or no node replies."""
        if self._is_silent:
            return []
        self.requests += 1
        try:
            return self._reader.decode(await self._contract.find_created(index, first, last))[0]
        except RetryElsewhere:
            return []

    async def window(self, block: int) -> int | None:
        """Return the response window in blocks as it was at a height; None where no node shows that state."""
        try:
            at = await self._contract.header(block)
            return None if at is None else await self._contract.response_window(at)
        except RetryElsewhere:
            return None

    async def times(self, heights: Collection[int]) -> dict[tuple[int, bytes], int]:
        """Return the times (seconds since 1970) of blocks by height and hash, without those that no node shows."""
        known: dict[tuple[int, bytes], int] = {}
        for piece in _slices(sorted(heights), _TIMES_AT_ONCE):
            replied = await self._nodes.side.headers(piece)
            if replied is None:
                break
            known |= {
                (number, header.hash): header.timestamp_s for number, header in replied.items() if header.timestamp_s
            }
        return known

    async def senders(self, tx_hashes: Collection[bytes]) -> dict[bytes, tuple[bytes, int]]:
        """Return address (20 bytes) and height by transaction, without the transactions that no node shows."""
        known: dict[bytes, tuple[bytes, int]] = {}
        for piece in _slices(sorted(tx_hashes), _SENDERS_AT_ONCE):
            replied = await self._nodes.side.senders(piece)
            if replied is None:
                break
            known |= {tx_hash: (sender.address, sender.block_number) for tx_hash, sender in replied.items()}
        return known

    async def _rest(self, rest_s: float | None) -> None:
        if rest_s is None:
            self._is_silent = True
        else:
            await self._nodes.clock.sleep(rest_s)


def _slices(values: Sequence[T], size: int) -> list[Sequence[T]]:
    return [values[start : start + size] for start in range(0, len(values), size)]
