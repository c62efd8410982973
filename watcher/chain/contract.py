"""The task manager as the chain holds it at one block: every reading is pinned to a block hash.

Invariant: all values of one call come from the same block of the same chain, or an error says that they do not.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from watcher.chain.convention.abi import topic
from watcher.chain.convention.convention import Convention
from watcher.chain.convention.view import NoSuchView, View, item
from watcher.chain.rpc.calls import Caller, Emitters, LogQuery, Topics
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.replies import Log, Reverted, Unread
from watcher.chain.view_cache import Question, ViewCache
from watcher.errors import NarrowRange, RetryElsewhere
from watcher.ledger.by_index import Place
from watcher.task import Header, Task

T = TypeVar("T")
WordPair = tuple[bytes | None, bytes | None]  # the contract's words for a task and for its answer

# The storage slot of a proxy's code address in ERC-1967: keccak256("eip1967.proxy.implementation") - 1.
IMPLEMENTATION_SLOT = (int.from_bytes(topic("eip1967.proxy.implementation")) - 1).to_bytes(32)


class TaskManager:
    """The contract's views. All raise RetryElsewhere when no endpoint answers, StaleNode when none has the block."""

    def __init__(self, nodes: NodePool, address: bytes, convention: Convention, max_span_blocks: int) -> None:
        self._nodes = nodes
        self.address = address
        self.convention = convention
        self._max_span_blocks = max_span_blocks
        self._cache = ViewCache(lambda: nodes.clock.monotonic_s())

    async def header(self, number: int) -> Header | None:
        """Return the block at a height; None when no endpoint has it."""
        return await self._nodes.header(number)

    @property
    def counts_tasks(self) -> bool:
        """True where the contract has a count of its tasks, and numbers them without gaps."""
        return self.convention.latest_task_num is not None

    @property
    def lowest_index(self) -> int:
        """The index of the contract's first task, `task.first_index`."""
        return self.convention.first_index

    @property
    def proves_tasks(self) -> bool:
        """True where the contract holds the hash of each task."""
        return self.convention.all_task_hashes is not None

    @property
    def proves_answers(self) -> bool:
        """True where the contract holds a word for each answer; otherwise the event alone shows it."""
        return self.convention.all_task_responses is not None

    @property
    def shows_answers(self) -> bool:
        """True where an event shows answers. Without such an event no outcome can ever be confirmed."""
        return self.convention.responded is not None

    @property
    def names_answers(self) -> bool:
        """True where the contract's word for an answer is the hash of its event."""
        return self.proves_answers and self.convention.hashes_responses

    def response_hash(self, task_index: int, answer: bytes, log: bytes) -> bytes | None:
        """Return the contract's hash of an answer; None if the log shows another answer.

        Args:
            task_index: the task that is answered.
            answer: the bytes of the answer.
            log: topics and data of the response event, as the ledger stores them.
        """
        return self.convention.response_hash(task_index, answer, log)

    @property
    def emitters(self) -> Emitters:
        """The contracts that emit the logs to read: this one, and the one that shows answers if it is another."""
        other = self.convention.responded_address
        return self.address if other in (None, self.address) else (self.address, other)

    @property
    def log_queries(self) -> tuple[Topics, ...]:
        """The topics of one question per event, where `only` names indexed values; empty: `topics0` is enough."""
        convention = self.convention
        created = (convention.created_topic, convention.only_tasks)
        responded = (convention.responded_topic, convention.only_responses)
        queries = [only.topics if only else ((topic,),) for topic, only in (created, responded) if topic is not None]
        return tuple(queries) if any(len(topics) > 1 for topics in queries) else ()

    def log_query(self, first: int, last: int, after: Header | None = None) -> LogQuery:
        """Return the question for the contract's logs in a range of blocks; the arguments are those of `LogQuery`."""
        return LogQuery(self.emitters, self.convention.topics0, first, last, after, self.log_queries)

    @property
    def answered_at(self) -> bytes:
        """The address of the function that takes answers."""
        return self.convention.call_address or self.address

    async def ask(self, calls: Sequence[tuple[View[Any], bytes]], at: Header) -> list[bytes | Reverted | Unread]:
        """Return the reply to each call, a view with its call data, all on the state of block `at`."""
        questions = [(view.address or self.address, data) for view, data in calls]
        replies: dict[Question, bytes | Reverted | Unread] = {**self._cache.replies(at, questions)}
        missing = [question for question in dict.fromkeys(questions) if question not in replies]
        for address in dict.fromkeys(address for address, _ in missing):
            here = [question for question in missing if question[0] == address]
            read = await self._nodes.views([data for _, data in here], address, at)
            answers = dict(zip(here, read, strict=True))
            self._cache.keep(at, answers.items())
            replies |= answers
        return [replies[question] for question in questions]

    def is_task(self, word: bytes | None, task_hash: bytes) -> bool:
        """Return True if the contract's word for a task is its hash; without `task.hash`, if there is a word."""
        return word == task_hash if self.convention.hashes_tasks else word is not None

    def creates_task(self, log: Log) -> bool:
        """Return True for a log that creates a task of ours."""
        is_created = log.address == self.address and log.topics[0] == self.convention.created_topic
        return is_created and self.convention.is_own_task(log)

    def shows_answer(self, log: Log) -> bool:
        """Return True for a log that shows an answer to a task of ours."""
        emitter = self.convention.responded_address or self.address
        is_answer = log.address == emitter and log.topics[0] == self.convention.responded_topic
        return is_answer and self.convention.is_own_response(log)

    def matches_log(self, task: Task) -> bool:
        """Return True if the log stored with a task describes this task: its index, its hash and its content."""
        return self.convention.matches_log(task)

    async def response_window(self, at: Header) -> int | None:
        """Return the response window in blocks; None where there is none.

        Raises:
            RetryElsewhere: the window is 0. No response could ever be in time, and empty caches reply 0.
        """
        view = self.convention.response_window
        if view is None:
            return self.convention.window_blocks
        window: int = await self._read(view, at)
        if window == 0:
            raise RetryElsewhere(f"{view.signature} is 0 at block {at.number}, as it is on a node without that state")
        return window

    async def aggregator(self, at: Header) -> bytes | None:
        """Return the one address the contract takes answers from, 20 bytes; None where it names none."""
        view = self.convention.aggregator
        if view is None:
            return None
        (reply,) = await self.ask([(view, view.call())], at)
        is_named = isinstance(reply, Unread) or (isinstance(reply, bytes) and len(reply) == 32)
        return view.read(reply) if is_named else None

    @property
    def addresses(self) -> Mapping[str, bytes]:
        """Return every address of the convention, each once, by where it differs: "" for the task manager itself."""
        named = (("", self.address), ("response", self.convention.responded_address), ("call", self.answered_at))
        by_address = {address: name for name, address in reversed(named) if address is not None}
        return {name: address for address, name in by_address.items()}

    async def implementation_and_code(self, address: bytes, at: Header) -> tuple[bytes | None, bytes | None]:
        """Return the word in the slot of a proxy's code address, and the code; None where no node answers."""
        return await self._nodes.side.account(address, IMPLEMENTATION_SLOT, at)

    async def has_no_code(self, at: Header) -> bool:
        """Return True if a node shows that there is no code at the address; False also if no node answers."""
        try:
            return await self._nodes.side.code(self.address, at.number) == b""
        except RetryElsewhere:
            return False

    async def simulate(
        self, calls: Sequence[bytes], sender: bytes, at: Header, *, next_block: bool = False
    ) -> list[bytes | Reverted | Unread]:
        """Return the replies to calls that are run and not sent.

        Args:
            calls: call data of the contract that takes answers.
            sender: the caller, 20 bytes.
            at: the block whose state every call runs on.
            next_block: run them in the block after `at`, where a node can and contracts count the chain's own blocks.
        """
        caller = Caller(sender, next_block and at.l1_block is None)
        return await self._nodes.views(calls, self.answered_at, at, caller)

    async def latest_task_num(self, at: Header) -> int:
        """Return the next index, one more than the last one; `lowest_index` without a task. Needs `counts_tasks`."""
        assert self.convention.latest_task_num is not None, "the caller checks counts_tasks"
        next_index: int = await self._read(self.convention.latest_task_num, at)
        return next_index

    async def hashes_and_responses(
        self, indices: Sequence[int], at: Header, *, answers_too: bool = True
    ) -> list[WordPair | Unread]:
        """Return the contract's words for the task and for its answer, per index, all at block `at`.

        A word is None where the contract holds nothing, and where it has no such view. An index that cannot be read
        (its view reverts, a node refuses it) is Unread and affects no other index.

        Args:
            indices: the indices of the tasks.
            at: the block whose state is read.
            answers_too: False: the words for the answers are not read, and None.

        Raises:
            NoSuchView: every reply is empty.
            RetryElsewhere: none of several indices can be read.
        """
        of_tasks, of_answers = self.convention.all_task_hashes, self.convention.all_task_responses
        views = [view for view in (of_tasks, of_answers if answers_too else None) if view]
        replies = await self.ask([(view, view.call(index)) for index in indices for view in views], at)
        if replies and not any(replies):
            views[0].read(replies[0])  # raises: there is no code at the address, or none of this convention
        unread = [reply for reply in replies if isinstance(reply, Unread)]
        if len(indices) > 1 and unread and len(unread) == len(replies):  # none of each: there are no views
            raise RetryElsewhere(unread[0].reason)
        columns = iter(
            [[item(view, reply) for reply in replies[place :: len(views)]] for place, view in enumerate(views)]
        )
        nothing = [None] * len(indices)
        tasks = next(columns) if of_tasks else nothing
        answers = next(columns, nothing)
        return [
            task if isinstance(task, Unread) else answer if isinstance(answer, Unread) else (task, answer)
            for task, answer in zip(tasks, answers, strict=True)
        ]

    async def first_index(self, start_block: int, at: Header, lowest: Place | None) -> int:
        """Return the index of the first task created at or after `start_block`: the count at the block before.

        Where no node keeps that old state, the creation logs below the lowest known task are searched downwards:
        indices rise with the blocks, so that every earlier task has a lower index.

        Args:
            start_block: the first block that is watched.
            at: the present block.
            lowest: the lowest known task, None if no task is known.
        """
        lowest_index = self.lowest_index
        if start_block <= 0:
            return lowest_index
        try:
            before = await self._nodes.header(start_block - 1)
            if before is not None and before.number < at.number:
                return await self.latest_task_num(before)
        except NoSuchView:
            return lowest_index  # the contract did not exist yet
        except RetryElsewhere:
            pass
        if self.convention.index_topic(0) is None:
            return lowest_index if lowest is None else max(lowest.task_index, lowest_index)
        first = lowest or Place(await self.latest_task_num(at), at.number)
        while first.task_index > lowest_index:
            logs = await self.find_created(first.task_index - 1, start_block, first.block_number)
            if not logs:
                break
            first = Place(first.task_index - 1, logs[-1].block_number)
        return max(first.task_index, lowest_index)

    async def find_created(self, index: int, first: int, last: int) -> tuple[Log, ...]:
        """Return the creation logs of one index, found by its topic; none where the index is no topic.

        Args:
            index: the task's index.
            first: the first block of the search.
            last: the last block of the search, included.
        """
        # A search by topic returns few logs, so its spans may be far longer than those of the watch.
        step = self._max_span_blocks * 50
        if self.convention.index_topic(index) is None:
            return ()
        logs: tuple[Log, ...] = ()
        for low in range(first, last + 1, step):
            logs += await self._find(index, low, min(low + step - 1, last))
        return logs

    async def _find(self, index: int, first: int, last: int) -> tuple[Log, ...]:
        convention = self.convention
        try:
            return await self._nodes.find(
                self.address, convention.created_topic, convention.index_topic(index), first, last
            )
        except NarrowRange:
            middle = (first + last) // 2
            return await self._find(index, first, middle) + await self._find(index, middle + 1, last)

    async def _read(self, view: View[T], at: Header) -> T:
        (reply,) = await self.ask([(view, view.call())], at)
        return view.read(reply)
