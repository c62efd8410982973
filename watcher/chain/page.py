"""Logs as tasks and responses, with the logs set aside. A flood of logs costs one event and one line."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from watcher.chain.contract import TaskManager
from watcher.chain.look_ahead import LookAhead
from watcher.chain.rpc.replies import Log, LogPage
from watcher.errors import Quarantine, RetryElsewhere
from watcher.task import Header, Responded, Task

_EXAMPLES = 3
# The decoding of more logs than this runs in a thread, so that the event loop does not stall.
_DECODE_ASIDE = 300
# More tasks in a block are proved in requests of their own.
_READ_AHEAD = 200


@dataclass(frozen=True, slots=True)
class Decoded:
    """The content of a page. `refused` are the logs that cannot be decoded, each with the reason.

    `beyond` are tasks whose index the contract has not given out yet; `count` is the number of tasks it counts.
    `proved` are the tasks whose hash the contract holds at the last block, if it was asked.
    """

    tasks: list[Task]
    responses: list[Responded]
    refused: list[tuple[Log, str]]
    beyond: list[Task]
    count: int = 0
    proved: Sequence[Task] = ()

    def refused_message(self) -> str:
        """Return a sentence about the refused logs: their number, and three of them."""
        examples = [
            f"log {log.log_index} in block {log.block_number}: {reason}" for log, reason in self.refused[:_EXAMPLES]
        ]
        return _summary(len(self.refused), "logs cannot be decoded", examples)

    def beyond_message(self) -> str:
        """Return a sentence about the tasks beyond the count: their number, and three of them."""
        examples = [f"task {task.task_index} in block {task.seen_at.block_number}" for task in self.beyond[:_EXAMPLES]]
        return _summary(len(self.beyond), f"tasks are shown beyond the {self.count} that the contract counts", examples)


def _summary(count: int, subject: str, examples: Sequence[str]) -> str:
    more = f"; and {count - len(examples)} more" if count > len(examples) else ""
    return f"{count} {subject}: {'; '.join(examples)}{more}"


class LogReader:
    """The decoder of the contract's logs. New tasks get the response window `window_blocks`, None for no window."""

    def __init__(self, contract: TaskManager, chain_id: int, window_blocks: int | None) -> None:
        self._contract = contract
        self._chain_id = chain_id
        self.window_blocks = window_blocks
        self.ahead = LookAhead(contract)

    async def read(self, page: LogPage, *, at_once: bool = False) -> Decoded:
        """Return the tasks and responses of a page, with the tasks beyond the contract's count apart.

        `at_once`: the last block is the head, and tasks need no block above theirs. One request then reads all that the
        stages ask about them at this block, and the contract's word for a task proves it.
        """
        if len(page.logs) > _DECODE_ASIDE:
            tasks, responses, refused = await asyncio.to_thread(self.decode, page.logs)
        else:
            tasks, responses, refused = self.decode(page.logs)
        is_asked = at_once and 0 < len(tasks) <= _READ_AHEAD
        if is_asked:
            await self.ahead.read([task.task_index for task in tasks], page.last)
        tasks, beyond, count = await within_count(self._contract, tasks, page.last)
        self.ahead.follow(tasks)
        proved = await proved_at(self._contract, tasks, page.last) if is_asked else ()
        return Decoded(tasks, responses, refused, beyond, count, proved)

    def decode(self, logs: Sequence[Log]) -> tuple[list[Task], list[Responded], list[tuple[Log, str]]]:
        """Return logs as tasks and responses, and the logs that cannot be decoded with the reason."""
        convention = self._contract.convention
        tasks, responses, refused = [], [], []
        for log in logs:
            try:
                if self._contract.creates_task(log):
                    tasks.append(convention.decode_task(log, self._chain_id, self.window_blocks))
                elif self._contract.shows_answer(log):
                    responses.append(convention.decode_response(log))
            except Quarantine as error:
                refused.append((log, str(error)))
        return tasks, responses, refused


async def proved_at(contract: TaskManager, tasks: Sequence[Task], at: Header) -> Sequence[Task]:
    """Return the tasks that the contract's words at block `at` prove. The others are left to the stage `admit`."""
    if not tasks or not contract.proves_tasks:
        return ()
    try:
        readings = await contract.hashes_and_responses([task.task_index for task in tasks], at)
    except RetryElsewhere:
        return ()
    pairs = zip(tasks, readings, strict=True)
    return [task for task, word in pairs if isinstance(word, tuple) and contract.is_task(word[0], task.task_hash)]


async def within_count(contract: TaskManager, tasks: list[Task], at: Header) -> tuple[list[Task], list[Task], int]:
    """Split tasks by the contract's count.

    No task is beyond a count that cannot be read (not every node keeps old state; the task's hash proves it later), nor
    beyond a count of zero, which every empty cache reports. The index equal to the count is within it: so a file that
    does not say that the contract counts from 1 loses no task.

    Args:
        contract: the task manager.
        tasks: the tasks of one page of logs.
        at: the last block of that page, so that the count cannot lag behind the logs.

    Returns:
        The tasks within the count, the tasks beyond it, and the count (0: it decides nothing).
    """
    if not tasks or not contract.counts_tasks:
        return tasks, [], 0
    try:
        next_index = await contract.latest_task_num(at)
    except RetryElsewhere:
        return tasks, [], 0
    count = next_index - contract.lowest_index
    if count == 0:
        return tasks, [], 0
    within = [task for task in tasks if task.task_index <= next_index]
    return within, [task for task in tasks if task.task_index > next_index], count
