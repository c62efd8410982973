"""A page of logs as tasks and responses, and what of it is set aside. A flood of logs costs one event and one line."""

from collections.abc import Sequence
from dataclasses import dataclass

from watcher.chain.contract import TaskManager
from watcher.chain.rpc.replies import Log
from watcher.errors import RetryElsewhere
from watcher.task import Header, Responded, Task

_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a page holds. `refused` are the logs that cannot be decoded, each with the reason.

    `beyond` are tasks whose index the contract has not given out; `count` is how many it counts.
    """

    tasks: list[Task]
    responses: list[Responded]
    refused: list[tuple[Log, str]]
    beyond: list[Task]
    count: int = 0

    def refusals(self) -> str:
        """The refused logs in words: how many, and three of them."""
        shown = [f"log {log.log_index} in block {log.block_number}: {why}" for log, why in self.refused[:_EXAMPLES]]
        return _summary(len(self.refused), "logs cannot be decoded", shown)

    def inventions(self) -> str:
        """The tasks beyond the count in words: how many, and three of them."""
        shown = [f"task {task.task_index} in block {task.seen_at.block_number}" for task in self.beyond[:_EXAMPLES]]
        return _summary(len(self.beyond), f"tasks are shown beyond the {self.count} that the contract counts", shown)


def _summary(count: int, what: str, shown: Sequence[str]) -> str:
    return f"{count} {what}: {'; '.join(shown)}{f'; and {count - len(shown)} more' if count > len(shown) else ''}"


async def within_count(contract: TaskManager, tasks: list[Task], at: Header) -> tuple[list[Task], list[Task], int]:
    """Split tasks into those whose index the contract has given out by block `at`, and those beyond; and its count.

    The count is read at the page's own last block, so that it cannot lag behind the logs. Nothing is beyond a count
    that cannot be read (old state is not kept everywhere: each task is proved by its hash later), nor beyond no task at
    all, which every empty cache says. The index right at the count stays: a file that does not say that the contract
    counts from 1 loses no task by it.
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
    given_out = [task for task in tasks if task.task_index <= next_index]
    return given_out, [task for task in tasks if task.task_index > next_index], count
