"""Housekeeping: does what the contract shows fit the convention? A slip there is silent otherwise.

Invariants: every reading is pinned to the block of the cursor, whose logs are all read, so that a lagging node cannot
make a contradiction; a contradiction is reported when two passes in a row show it, and goes when a pass shows it no
more. Nothing is decided here about any task.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loguru import logger

from watcher.chain.contract import TaskManager
from watcher.chain.convention.view import NoSuchView
from watcher.chain.counting import Numbered, contradiction, probes
from watcher.chain.rpc.replies import Unread
from watcher.errors import RetryElsewhere
from watcher.ledger import outcomes, queries
from watcher.ledger.store import Ledger
from watcher.once import Lasting
from watcher.task import Header, OpenTask

# Far behind the head the state is not kept, and the contract may not have been there yet.
_NEAR_BLOCKS = 20
# Of the open tasks the newest say most about the convention as it is described now.
_TASKS_PER_PASS = 20
_FILE = "task_manager.convention"


@dataclass(frozen=True, slots=True)
class Contradiction:
    """`key` is the key of the convention file that is probably wrong, `message` says what was seen and what to do."""

    key: str
    message: str


class Consistency:
    """One pass over the newest open tasks per `run`. `messages` are the contradictions that last."""

    def __init__(
        self,
        contract: TaskManager,
        ledger: Ledger,
        report: Callable[[Sequence[str]], None] = lambda _messages: None,
    ) -> None:
        """`report` is called with `messages` after each pass."""
        self._report = report
        self._contract = contract
        self._ledger = ledger
        self._passes: Lasting[str] = Lasting()
        self._lasting: dict[str, Contradiction] = {}

    @property
    def messages(self) -> tuple[str, ...]:
        """One line for each contradiction, for a person."""
        return tuple(one.message for one in self._lasting.values())

    async def run(self) -> None:
        """Compare what the ledger has read with what the contract holds. Raises RetryElsewhere when no node can say."""
        cursor = await self._ledger.read(queries.cursor, self._ledger.source_id)
        if cursor.hash is None or cursor.block + _NEAR_BLOCKS < cursor.head_block:
            return
        at = Header(cursor.block, cursor.hash, b"")
        found = [*await self._counted(at), *await self._answered(at)]
        now = {one.key: one for one in found}
        begun, ended = self._passes.update(now.keys())
        for key in sorted(begun):
            logger.warning("{}", now[key].message)
        for key in sorted(ended):
            logger.info("{}: {} fits the contract again", _FILE, key)
        self._lasting = {key: one for key, one in now.items() if key in begun or key in self._lasting}
        self._report(self.messages)

    async def _counted(self, at: Header) -> Sequence[Contradiction]:
        view = self._contract.convention.latest_task_num
        if view is None:
            return []
        try:
            next_index = await self._contract.latest_task_num(at)
        except NoSuchView:
            words = f"the contract has no {view.signature}, so that no hole in the indices is ever noticed"
            return [_contradiction("task.count_view", words, "correct task.count_view, or leave it out")]
        found = contradiction(await self._numbered(next_index, at))
        return [] if found is None else [_contradiction("task.first_index", *found)]

    async def _numbered(self, next_index: int, at: Header) -> Numbered:
        """What the contract holds at both ends of its indices. Only what it holds counts: a log may be forged."""
        first, held = self._contract.lowest_index, {}
        if self._contract.proves_tasks:
            asked = probes(next_index, first)
            found = await self._contract.hashes_and_responses(asked, at)
            held = {i: one[0] is not None for i, one in zip(asked, found, strict=True) if not isinstance(one, Unread)}
        lowest = await self._ledger.read(queries.lowest, self._ledger.source_id)
        low, high = max(0, next_index - 2), max(0, next_index - 1)
        shown = await self._ledger.read(queries.known_indices, self._ledger.source_id, low, high)
        highest = max(shown, default=None)
        return Numbered(next_index, first, None if lowest is None else lowest.task_index, highest, held)

    async def _answered(self, at: Header) -> Sequence[Contradiction]:
        """Tasks that count as answered by the contract's word, while no log that was read shows an answer."""
        if not self._contract.proves_answers:
            return []
        held = await self._ledger.read(queries.newest_open, self._ledger.source_id, _TASKS_PER_PASS)
        held = [one for one in held if one.task.seen_at.block_number <= at.number]
        if not held:
            return []
        for one, word in zip(held, await self._words(held, at), strict=True):
            if word is not None and not await self._is_shown(one, word):
                return [await self._unexplained(one)]
        return []

    async def _words(self, held: Sequence[OpenTask], at: Header) -> list[bytes | None]:
        found = await self._contract.hashes_and_responses([one.task.task_index for one in held], at)
        return [None if isinstance(one, Unread) else one[1] for one in found]

    async def _is_shown(self, held: OpenTask, word: bytes) -> bool:
        named = word if self._contract.names_answers else None
        task = held.task
        return (
            await self._ledger.read(
                outcomes.response_of, self._ledger.source_id, task.task_index, named, None, task.seen_at
            )
            is not None
        )

    async def _unexplained(self, held: OpenTask) -> Contradiction:
        index, view = held.task.task_index, self._contract.convention.all_task_responses
        assert view is not None, "asked only where there is such a view"
        if await self._is_answered_from_the_start(held):
            words = f"{view.signature} is not zero for task {index} in the block that made it, without any answer:"
            return _contradiction(
                "response.hash_view",
                f"{words} the task counts as answered, and nothing is sent for it",
                "name a view that is zero until there is an answer, or the value that means one (equals)",
            )
        words = f"{view.signature} says that task {index} is answered, and no log shows an answer of that content:"
        return _contradiction(
            "response.event",
            f"{words} nothing is sent for it, and nobody's answer is recorded",
            "correct response.event, response.index, response.hash or response.hash_view, or name another node in"
            " chain.rpc_urls if this one withholds logs",
        )

    async def _is_answered_from_the_start(self, held: OpenTask) -> bool:
        """Whether the view says so in the block of the task itself. False where no node keeps that state."""
        seen = held.task.seen_at
        try:
            return (await self._words([held], Header(seen.block_number, seen.block_hash, b"")))[0] is not None
        except RetryElsewhere:
            return False


def _contradiction(key: str, words: str, advice: str) -> Contradiction:
    return Contradiction(key, f"{_FILE}: {words}; {advice}")
