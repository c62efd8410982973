"""A periodic job: compare the contract with its convention, whose errors would be silent otherwise.

Invariants: every reading is pinned to the block of the cursor, whose logs are all read, so that a lagging node cannot
cause a contradiction; a contradiction is reported when two passes in a row show it, and ends when a pass does not show
it. This job decides nothing about any task.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loguru import logger

from watcher.chain.contract import TaskManager
from watcher.chain.convention.view import NoSuchView
from watcher.chain.counting import Numbered, contradiction, probes
from watcher.chain.rpc.replies import Unread
from watcher.chain.source import Source
from watcher.errors import RetryElsewhere
from watcher.ledger import by_index, queries
from watcher.ledger.answer_events import AnsweredTask, answer_events
from watcher.once import Lasting
from watcher.task import Header, OpenTask, Task

# Further behind the head nodes do not keep the state, and the contract may not exist yet.
_NEAR_BLOCKS = 20
# The newest open tasks show most about the convention as it is described now.
_TASKS_PER_PASS = 20
_FILE = "task_manager.convention"


@dataclass(frozen=True, slots=True)
class Contradiction:
    """The probably wrong key of the convention file, and a message with the observation and the correction."""

    key: str
    message: str


class Consistency:
    """One pass over the newest open tasks per `run`. `messages` are the contradictions that last."""

    def __init__(self, source: Source, report: Callable[[Sequence[str]], None] = lambda _messages: None) -> None:
        """`report` is called with `messages` after each pass."""
        self._report = report
        self._source = source
        self._contract = source.contract
        self._ledger = source.ledger
        self._contradicted: Lasting[str] = Lasting()
        self._lasting: dict[str, Contradiction] = {}

    @property
    def messages(self) -> tuple[str, ...]:
        """One line for each contradiction, for a person."""
        return tuple(contradiction.message for contradiction in self._lasting.values())

    async def run(self) -> None:
        """Compare the logs in the ledger with the contract.

        Raises:
            RetryElsewhere: no endpoint answers.
        """
        cursor = await self._source.cursor()
        if cursor.hash is None or cursor.block + _NEAR_BLOCKS < cursor.head_block:
            return
        at = Header(cursor.block, cursor.hash, b"")
        now = {entry.key: entry for entry in [*await self._counted(at), *await self._answered(at)]}
        begun, ended = self._contradicted.update(now.keys())
        for key in sorted(begun):
            logger.warning(
                "chain.convention_contradicted: the contract contradicts its convention",
                key=key,
                reason=now[key].message,
            )
        for key in sorted(ended):
            logger.info("chain.convention_fits: the key of the convention fits the contract again", key=key)
        self._lasting = {key: entry for key, entry in now.items() if key in begun or key in self._lasting}
        self._report(self.messages)

    async def _counted(self, at: Header) -> Sequence[Contradiction]:
        view = self._contract.convention.latest_task_num
        if view is None:
            return []
        try:
            next_index = await self._contract.latest_task_num(at)
        except NoSuchView:
            message = f"the contract has no {view.signature}, so that no hole in the indices is ever noticed"
            return [_contradiction("task.count_view", message, "correct task.count_view, or leave it out")]
        numbering = contradiction(await self._numbered(next_index, at))
        return [] if numbering is None else [_contradiction("task.first_index", *numbering)]

    async def _numbered(self, next_index: int, at: Header) -> Numbered:
        """Return the contract's tasks at both ends of its indices. A log may be forged, so its views decide."""
        first, holds = self._contract.lowest_index, {}
        if self._contract.proves_tasks:
            indices = probes(next_index, first)
            readings = zip(indices, await self._contract.hashes_and_responses(indices, at), strict=True)
            holds = {index: word[0] is not None for index, word in readings if not isinstance(word, Unread)}
        lowest = await self._ledger.read(by_index.lowest, self._ledger.source_id)
        low, high = max(0, next_index - 2), max(0, next_index - 1)
        logged = await self._ledger.read(by_index.known_indices, self._ledger.source_id, low, high)
        highest = max(logged, default=None)
        return Numbered(next_index, first, None if lowest is None else lowest.task_index, highest, holds)

    async def _answered(self, at: Header) -> Sequence[Contradiction]:
        """Find a task that is answered by the contract's word, while no log that was read shows an answer."""
        if not self._contract.proves_answers:
            return []
        newest = await self._ledger.read(queries.newest_open, self._ledger.source_id, _TASKS_PER_PASS)
        tasks = [task for task in newest if task.task.seen_at.block_number <= at.number]
        if not tasks:
            return []
        for task, word in zip(tasks, await self._response_words(tasks, at), strict=True):
            if word is not None and not await self._is_logged(task, word):
                return [await self._unexplained(task)]
        return []

    async def _response_words(self, tasks: Sequence[OpenTask], at: Header) -> list[bytes | None]:
        readings = await self._contract.hashes_and_responses([task.task.task_index for task in tasks], at)
        return [None if isinstance(reading, Unread) else reading[1] for reading in readings]

    async def _is_logged(self, open_task: OpenTask, word: bytes) -> bool:
        response_hash = word if self._contract.names_answers else None
        task = open_task.task
        answered = AnsweredTask(task.task_index, task.seen_at, response_hash)
        return (await self._ledger.read(answer_events, self._ledger.source_id, [answered])) != [None]

    async def _unexplained(self, task: OpenTask) -> Contradiction:
        if (wrong_view := await answered_from_the_start(self._contract, task.task)) is not None:
            return wrong_view
        index, view = task.task.task_index, self._contract.convention.all_task_responses
        assert view is not None, "the caller has read this view"
        message = f"{view.signature} says that task {index} is answered, and no log shows an answer of that content:"
        return _contradiction(
            "response.event",
            f"{message} nothing is sent for it, and no answer is recorded",
            "correct response.event, response.index, response.hash or response.hash_view, or name another node in"
            " chain.rpc_urls if this one withholds logs",
        )


async def answered_from_the_start(contract: TaskManager, task: Task) -> Contradiction | None:
    """Return the contradiction if `response.hash_view` calls the task answered in the block that made it.

    None also where no node keeps that state.
    """
    view, seen = contract.convention.all_task_responses, task.seen_at
    if view is None:
        return None
    try:
        at = Header(seen.block_number, seen.block_hash, b"")
        (reading,) = await contract.hashes_and_responses([task.task_index], at)
    except RetryElsewhere:
        return None
    if isinstance(reading, Unread) or reading[1] is None:
        return None
    return _contradiction(
        "response.hash_view",
        f"{view.signature} is not zero for task {task.task_index} in the block that made it, without any answer:"
        " the task counts as answered, and nothing is sent for it",
        "correct response.hash_view: name a view that is zero until there is an answer, or the value that means one"
        " (equals)",
    )


def _contradiction(key: str, message: str, advice: str) -> Contradiction:
    return Contradiction(key, f"{_FILE}: {message}; {advice}")
