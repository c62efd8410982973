"""The past tasks that a replay runs: a stream from the ledger or from the chain, thinned out as the options say."""

import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from watcher.cli.options import ledger
from watcher.clock import SystemClock
from watcher.ledger.reader import Reader
from watcher.ledger.replay import PastTask, Selection, past_count, past_page
from watcher.settings.model import Settings
from watcher.task import Task

if TYPE_CHECKING:
    from watcher.chain.contract import TaskManager
    from watcher.chain.rpc.nodes import NodePool

_PAGE = 500
# The same sample each time, so that two replays compare.
_SEED = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """The tasks of one replay: from the chain or the ledger, of `selection`, `sample` of them, `limit` at most."""

    chain: bool
    selection: Selection
    sample: int | None = None
    limit: int | None = None

    def least(self, count: int) -> int:
        """Return how many of `count` selected tasks are replayed."""
        return min(number for number in (count, self.sample, self.limit) if number is not None)


@asynccontextmanager
async def opened_tasks(
    settings: Settings, plan: Plan
) -> AsyncIterator[tuple[AsyncIterator[PastTask], "TaskManager", int | None]]:
    """Give the tasks of a plan, their contract, and their number where it is known.

    Raises:
        TryLater: there is no ledger.
        RetryElsewhere: no node answers.
    """
    from watcher.daemon import parts

    nodes = parts.node_pool(settings.chain, SystemClock())
    contract = parts.task_manager(settings.task_manager, nodes, settings.chain.max_span_blocks, answers=False)
    with ExitStack() as stack:
        try:
            total = None
            if plan.chain:
                tasks = _from_chain(settings, plan.selection, contract, nodes)
            else:
                reader, source_id = stack.enter_context(ledger(settings))
                if sys.stderr.isatty():  # the count reads the whole table, for the progress bar alone
                    total = plan.least(await reader.read(past_count, source_id, plan.selection))
                tasks = _from_ledger(reader, source_id, plan.selection)
            tasks = tasks if plan.sample is None else _sampled(tasks, plan.sample)
            yield tasks if plan.limit is None else _limited(tasks, plan.limit), contract, total
        finally:
            await nodes.close()


async def find_on_chain(settings: Settings, index: int) -> Task | None:
    """Return the newest task with this index in the contract's logs; None where they show none.

    Raises RetryElsewhere where no node gives a usable reply.
    """
    from watcher.chain.numbering import settle
    from watcher.chain.past_tasks import PastTasks
    from watcher.daemon import parts

    clock, chain = SystemClock(), settings.chain
    nodes = parts.node_pool(chain, clock)
    contract = parts.task_manager(settings.task_manager, nodes, chain.max_span_blocks, answers=False)
    try:
        await settle(nodes, clock, chain.contract_blocks)
        start_block = settings.task_manager.start_block
        reading = PastTasks(contract, nodes, clock, chain.chain_id, chain.max_span_blocks)
        return await reading.find(index, 0 if isinstance(start_block, str) else start_block, await nodes.head())
    finally:
        await nodes.close()


async def _from_ledger(reader: Reader, source_id: int, selection: Selection) -> AsyncIterator[PastTask]:
    """Yield the tasks page by page: one long read would keep the write-ahead log from shrinking."""
    before_id: int | None = None
    while page := await reader.read(past_page, source_id, selection, before_id, _PAGE):
        for past in page:
            yield past
        before_id = page[-1].row_id


async def _from_chain(
    settings: Settings, selection: Selection, contract: "TaskManager", nodes: "NodePool"
) -> AsyncIterator[PastTask]:
    from watcher.chain.numbering import settle
    from watcher.chain.past_tasks import PastTasks

    clock, chain = SystemClock(), settings.chain
    await settle(nodes, clock, chain.contract_blocks)
    reading = PastTasks(contract, nodes, clock, chain.chain_id, chain.max_span_blocks)
    head = await nodes.head()
    start_block = settings.task_manager.start_block
    first = 0 if isinstance(start_block, str) else start_block
    first = first if selection.first_block is None else selection.first_block
    last = head.number if selection.last_block is None else selection.last_block
    if selection.since_ms is not None:
        first = max(first, await reading.block_at(selection.since_ms / 1000, head))
    if selection.until_ms is not None:
        last = min(last, await reading.block_at(selection.until_ms / 1000, head))
    async for past in reading.read(first, last, head):
        yield past


async def _sampled(tasks: AsyncIterator[PastTask], size: int) -> AsyncIterator[PastTask]:
    """Yield `size` of the tasks, each with the same chance (reservoir sampling), in the order of the stream."""
    random, count = Random(_SEED), 0  # noqa: S311 - no secret
    kept: list[tuple[int, PastTask]] = []
    async for past in tasks:
        place = len(kept) if count < size else random.randint(0, count)
        if len(kept) < size:
            kept.append((count, past))
        elif place < size:
            kept[place] = (count, past)
        count += 1
    for _, past in sorted(kept, key=lambda pair: pair[0]):
        yield past


async def _limited(tasks: AsyncIterator[PastTask], limit: int) -> AsyncIterator[PastTask]:
    count = 0
    async for past in tasks:
        yield past
        count += 1
        if count >= limit:
            return
