"""The past tasks of a contract, read from its logs alone, each with the answer that the contract holds.

Invariant: memory does not grow with the range: a task waits for its response with a bounded number of others.
"""

from collections.abc import AsyncIterator, Sequence

from watcher.chain.contract import TaskManager
from watcher.chain.page import LogReader
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.replies import LogPage, Unread
from watcher.clock import Clock
from watcher.errors import NarrowRange, RetryElsewhere
from watcher.ledger.replay import PastTask
from watcher.task import Header, Responded, Task

_WAITING_LIMIT = 10_000
# A long reading asks thousands of questions: a node that fails for a moment must not end it.
_RETRY_AFTER_S = (1.0, 3.0)


class PastTasks:
    """The tasks in a range of blocks. Raises RetryElsewhere where no node gives a usable reply."""

    def __init__(
        self, contract: TaskManager, nodes: NodePool, clock: Clock, chain_id: int, max_span_blocks: int
    ) -> None:
        """Keep the parts.

        Args:
            contract: the task manager.
            nodes: where logs and the contract's state are read.
            clock: paces retries.
            chain_id: the chain of the tasks.
            max_span_blocks: the longest range in one question.
        """
        self._contract = contract
        self._nodes = nodes
        self._clock = clock
        self._chain_id = chain_id
        self._span = max_span_blocks

    async def block_at(self, time_s: float, head: Header) -> int:
        """Return the first block with a timestamp of at least `time_s` (seconds since 1970), at most the head's.

        Raises RetryElsewhere if no node shows a block that bounds the time.
        """
        low, high = 0, head.number
        while low < high:
            middle = (low + high) // 2
            header = await self._contract.header(middle)
            if header is None:
                raise RetryElsewhere(f"no node shows block {middle}, which bounds the time")
            low, high = (middle + 1, high) if header.timestamp_s < time_s else (low, middle)
        return low

    async def read(self, first: int, last: int, head: Header) -> AsyncIterator[PastTask]:
        """Yield the tasks of a range of blocks, each once its response was read, the others at the end.

        Args:
            first: the first block.
            last: the last block, included.
            head: the head; responses are read up to it.
        """
        reader = LogReader(self._contract, self._chain_id, await self._contract.response_window(head))
        waiting: dict[int, Task] = {}
        low = first
        while low <= head.number and (low <= last or waiting):
            page = await self._page(low, min(head.number, low + self._span - 1), head)
            tasks, responses, _ = reader.decode(page.logs)
            waiting |= {task.task_index: task for task in tasks if task.seen_at.block_number <= last}
            for response in await self._accepted(responses, waiting, head):
                yield _answered(waiting.pop(response.task_index), response)
            while len(waiting) > _WAITING_LIMIT:
                yield _unanswered(waiting.pop(next(iter(waiting))))
            low = page.last.number + 1
        for task in waiting.values():
            yield _unanswered(task)

    async def find(self, index: int, first: int, head: Header) -> Task | None:
        """Return the newest task with this index from block `first` up to the head; None where there is none.

        The logs are searched by the index where it is a topic, else all are read.
        """
        if self._contract.convention.index_topic(index) is None:
            tasks = [past.task async for past in self.read(first, head.number, head) if past.task.task_index == index]
            return max(tasks, key=lambda task: task.seen_at.block_number, default=None)
        reader = LogReader(self._contract, self._chain_id, await self._contract.response_window(head))
        tasks, _, _ = reader.decode(await self._contract.find_created(index, first, head.number))
        return tasks[-1] if tasks else None

    async def _page(self, low: int, high: int, head: Header) -> LogPage:
        retries = iter(_RETRY_AFTER_S)
        while True:
            try:
                return await self._nodes.page(self._contract.log_query(low, high), head)
            except NarrowRange:
                if low == high:
                    raise  # a single block is too much for the node
                self._span = max(1, self._span // 2)
                high = min(high, low + self._span - 1)
            except RetryElsewhere:
                if (rest_s := next(retries, None)) is None:
                    raise
                await self._clock.sleep(rest_s)

    async def _accepted(
        self, responses: Sequence[Responded], waiting: dict[int, Task], head: Header
    ) -> list[Responded]:
        """Return the responses to waiting tasks that the contract holds, by its own hash where it stores one."""
        events = [response for response in responses if response.task_index in waiting]
        if events and self._contract.names_answers:
            indices = sorted({event.task_index for event in events})
            readings = await self._contract.hashes_and_responses(indices, head)
            hashes = {
                index: reading[1]
                for index, reading in zip(indices, readings, strict=True)
                if not isinstance(reading, Unread)
            }
            events = [event for event in events if hashes.get(event.task_index) == event.response_hash]
        # The first event of a task counts.
        return list({event.task_index: event for event in reversed(events)}.values())


def _answered(task: Task, response: Responded) -> PastTask:
    return PastTask(0, task, "", None, response.message)


def _unanswered(task: Task) -> PastTask:
    return PastTask(0, task, "")
