"""The contract's words for tasks: what is asked of the nodes, and what is not."""

from collections.abc import Sequence
from random import Random
from typing import Any, cast

from tests.conformance.rig import header as block
from tests.kit.clocks import SetClock
from watcher.chain.contract import TaskManager
from watcher.chain.convention.convention import convention
from watcher.chain.rpc.nodes import NodePool
from watcher.task import Header

MANAGER = b"\x11" * 20
WIZARD = convention("wizard")
WORD = b"\x01" * 32


class Fake:
    """A node that gives each view the same word."""

    name = "a"

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    async def views(self, calls: Sequence[bytes], to: bytes, at: Header) -> list[bytes]:
        self.asked += calls
        return [WORD for _ in calls]


async def test_words_for_answers_are_left_out_where_nobody_needs_them() -> None:
    node = Fake()
    nodes = NodePool(cast("Any", [node]), SetClock(1_700_000_000_000), Random(1))
    contract = TaskManager(nodes, MANAGER, WIZARD, 100)
    of_tasks, of_answers = WIZARD.all_task_hashes, WIZARD.all_task_responses
    assert of_tasks is not None and of_answers is not None

    assert await contract.hashes_and_responses([7, 8], block(9), answers_too=False) == [(WORD, None)] * 2
    assert node.asked == [of_tasks.call(7), of_tasks.call(8)]

    assert await contract.hashes_and_responses([7, 8], block(9)) == [(WORD, WORD)] * 2
    assert node.asked[2:] == [of_answers.call(7), of_answers.call(8)], "the words for the tasks are kept"
