"""The contract's words for tasks: what is asked of the nodes, and what is not."""

from collections.abc import Mapping, Sequence
from random import Random
from types import MappingProxyType
from typing import Any, cast

from tests.conformance.rig import header as block
from tests.kit.clocks import SetClock
from watcher.chain.contract import TaskManager
from watcher.chain.convention.convention import convention
from watcher.chain.convention.view import View
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.replies import Unread
from watcher.task import Header

MANAGER = b"\x11" * 20
WIZARD = convention("wizard")
WORD = b"\x01" * 32


class Fake:
    """A node that gives each view the same word, or the reply in `replies`."""

    name = "a"

    def __init__(self, replies: Mapping[bytes, bytes | Unread] = MappingProxyType({})) -> None:
        self.asked: list[bytes] = []
        self._replies = replies

    async def views(self, calls: Sequence[bytes], to: bytes, at: Header) -> list[bytes | Unread]:
        self.asked += calls
        return [self._replies.get(call, WORD) for call in calls]


def contract_of(node: Fake) -> TaskManager:
    nodes = NodePool(cast("Any", [node]), SetClock(1_700_000_000_000), Random(1))
    return TaskManager(nodes, MANAGER, WIZARD, 100)


def views_of_words() -> tuple[View[Any], View[Any]]:
    """The views of the words for a task and for its answer."""
    of_tasks, of_answers = WIZARD.all_task_hashes, WIZARD.all_task_responses
    assert of_tasks is not None and of_answers is not None
    return of_tasks, of_answers


async def test_words_for_answers_are_left_out_where_nobody_needs_them() -> None:
    node = Fake()
    contract = contract_of(node)
    of_tasks, of_answers = views_of_words()

    assert await contract.hashes_and_responses([7, 8], block(9), answers_too=False) == [(WORD, None)] * 2
    assert node.asked == [of_tasks.call(7), of_tasks.call(8)]

    assert await contract.hashes_and_responses([7, 8], block(9)) == [(WORD, WORD)] * 2
    assert node.asked[2:] == [of_answers.call(7), of_answers.call(8)], "the words for the tasks are kept"


async def test_each_task_gets_its_own_words() -> None:
    of_tasks, of_answers = views_of_words()
    replies = {
        view.call(index): bytes([kind, index]) * 16 for kind, view in enumerate(views_of_words()) for index in (7, 8, 9)
    }
    read = await contract_of(Fake(replies)).hashes_and_responses([7, 8, 9], block(9))
    assert read == [(replies[of_tasks.call(index)], replies[of_answers.call(index)]) for index in (7, 8, 9)]


async def test_a_word_that_no_node_gives_leaves_its_task_alone_unread() -> None:
    of_tasks, of_answers = views_of_words()
    nothing = Unread("refused")
    node = Fake({of_answers.call(7): nothing, of_tasks.call(9): nothing})
    read = await contract_of(node).hashes_and_responses([7, 8, 9], block(9))
    assert read == [nothing, (WORD, WORD), nothing]
