"""The contract's words for new tasks, read before the stages ask for them.

A block that may have created a task has them read with its logs, for the index that comes next; where that was another
one, and where there are several, one request behind the logs reads them. Invariant: the block and the index only choose
what is asked; the replies have the checks of every other reading.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from watcher.chain.contract import TaskManager
from watcher.chain.convention.view import View
from watcher.chain.rpc import calls as rpc_calls
from watcher.chain.rpc.calls import Call
from watcher.chain.rpc.poll import Pushed
from watcher.errors import RetryElsewhere
from watcher.task import Header, Task


class LookAhead:
    """The questions about new tasks of one contract."""

    def __init__(self, contract: TaskManager) -> None:
        self._contract = contract
        self._next_index: int | None = None

    def follow(self, tasks: Sequence[Task]) -> None:
        """Take the newest tasks: where the contract counts its tasks, the next one has the next index."""
        if tasks and self._contract.counts_tasks:
            self._next_index = max(task.task_index for task in tasks) + 1

    def calls(self, block: Pushed | None) -> list[Call]:
        """Return the calls for the words of the next task at a block that may have created it."""
        if block is None or not block.concerns or self._next_index is None:
            return []
        at = Header(block.number, block.hash, b"")
        questions = self._questions([self._next_index])
        return [
            call
            for view, data in questions
            for call in rpc_calls.views([data], view.address or self._contract.address, at, None)
        ]

    async def read(self, indices: Sequence[int], at: Header) -> None:
        """Read in one request what the stages ask of new tasks at `at`: the count, and the words for each index."""
        with suppress(RetryElsewhere):  # each stage asks for itself, and reports the failure
            await self._contract.ask(self._questions(indices), at)

    def _questions(self, indices: Sequence[int]) -> list[tuple[View[Any], bytes]]:
        convention = self._contract.convention
        views = [view for view in (convention.all_task_hashes, convention.all_task_responses) if view]
        questions: list[tuple[View[Any], bytes]] = [(view, view.call(index)) for index in indices for view in views]
        if convention.latest_task_num is not None:
            questions.append((convention.latest_task_num, convention.latest_task_num.call()))
        return questions
