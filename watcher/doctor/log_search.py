"""Search for logs of the contract with few requests: at both ends of its history, by topic, by the count of tasks.

Invariant: a result names the blocks that were searched, so that an empty one proves nothing about other blocks.
"""

from dataclasses import dataclass

from watcher.chain.contract import TaskManager
from watcher.chain.convention.view import NoSuchView
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.replies import Log
from watcher.errors import NarrowRange, RetryElsewhere
from watcher.task import Header

_REQUESTS = 8
# A filtered search returns few logs, so its spans may be far longer than those of the watch.
_FILTERED = 50


@dataclass(frozen=True, slots=True)
class Stretch:
    """The logs of the blocks from `first` to `last`, both included."""

    logs: tuple[Log, ...]
    first: int
    last: int


class Search:
    """Searches for one contract's logs up to one head. Every method raises RetryElsewhere if no node answers."""

    def __init__(self, nodes: NodePool, contract: TaskManager, head: Header, span_blocks: int) -> None:
        self._nodes, self._contract, self._head, self._span = nodes, contract, head, span_blocks

    async def newest(self) -> Stretch:
        """Return all logs of the newest blocks."""
        return await self._all(max(0, self._head.number - self._span + 1), self._head.number, keep_last=True)

    async def oldest(self, first: int) -> Stretch:
        """Return all logs of the blocks from `first` on."""
        return await self._all(first, min(first + self._span - 1, self._head.number), keep_last=False)

    async def block(self, number: int) -> tuple[Log, ...]:
        """Return all logs of one block."""
        return (await self._all(number, number, keep_last=True)).logs

    async def created(self, index: int | None) -> Stretch:
        """Return the newest logs that create tasks, searched downwards from the head.

        With an `index`, and where the event has it as a topic, only that task's log counts.
        """
        convention, address = self._contract.convention, self._contract.address
        index_topic = None if index is None else convention.index_topic(index)
        last, step = self._head.number, self._span * _FILTERED
        for _ in range(_REQUESTS):
            first = max(0, last - step + 1)
            try:
                logs = await self._nodes.find(address, convention.created_topic, index_topic, first, last)
            except NarrowRange:
                step = max(1, step // 4)
                continue
            created = tuple(log for log in logs if self._contract.creates_task(log))
            last = first
            if created or first == 0:
                return Stretch(created, first, self._head.number)
            last = first - 1
        return Stretch((), last + 1, self._head.number)

    async def counted(self, count: int) -> int | None:
        """Return the block in which the contract's count of tasks became `count`; None if no node has the state.

        Steps back twice as far each time, then halves: some forty readings for a chain of a hundred million blocks.
        """
        high, step = self._head.number, 1
        while True:
            low = max(0, self._head.number - step)
            known = await self._count(low)
            if known is None:
                return None
            if known < count:
                break
            if low == 0:
                return 0
            high, step = low, step * 2
        while high - low > 1:
            middle = (low + high) // 2
            known = await self._count(middle)
            if known is None:
                return None
            low, high = (middle, high) if known < count else (low, middle)
        return high

    async def _count(self, block: int) -> int | None:
        try:
            at = await self._nodes.header(block)
            return None if at is None else await self._contract.latest_task_num(at)
        except NoSuchView:
            return self._contract.lowest_index  # the contract did not exist yet
        except RetryElsewhere:
            return None

    async def _all(self, first: int, last: int, *, keep_last: bool) -> Stretch:
        """Return all logs between two blocks, or of as many blocks at one end as the node gives at once."""
        while True:
            try:
                return Stretch(await self._nodes.find(self._contract.emitters, None, None, first, last), first, last)
            except NarrowRange:
                half = (last - first + 1) // 2
                first, last = (last - half + 1, last) if keep_last else (first, first + half - 1)
