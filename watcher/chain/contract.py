"""The task manager as the chain holds it at one block: every reading is pinned to a block hash.

Invariant: all values of one call come from the same block of the same chain, or an error says that they do not.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from watcher.chain.convention.abi import topic
from watcher.chain.convention.convention import Convention
from watcher.chain.convention.view import NoSuchView, View, item
from watcher.chain.rpc.calls import Emitters
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.replies import Log, Reverted, Unread
from watcher.errors import FixConfiguration, NarrowRange, RetryElsewhere
from watcher.ledger.queries import Beginning, Place
from watcher.task import Header, Task

# A node that makes its answers up does not make up the same one twice.
_LOOKS = 2


async def genesis_hash(nodes: NodePool, begun: Beginning | None) -> bytes | None:
    """Return the hash of block 0 (32 bytes), None where no endpoint keeps it. `begun` is what the ledger remembers.

    A remembered hash is believed as soon as one endpoint shows it, another block 0 only when all do, again and again.

    Raises:
        RetryElsewhere: the endpoints answer nothing, or contradict each other.
        FixConfiguration: all endpoints show another block than an old, final one of the ledger, again and again.
    """
    begun_on = begun.genesis_hash if begun else None
    shown, answers = await _shown(nodes, 0, begun_on)
    if begun_on is not None and begun_on in shown:
        return begun_on
    for number, known in begun.final_blocks if begun else ():
        if known in (await _shown(nodes, number, known))[0]:
            return begun_on or (shown.pop() if len(shown) == 1 else None)
    if not answers:
        raise RetryElsewhere("no endpoint of chain.rpc_urls answers now")
    if len(shown) > 1:
        raise RetryElsewhere("the endpoints of chain.rpc_urls do not agree on block 0")
    if shown and begun_on is not None and answers < _LOOKS * len(nodes.nodes):
        raise RetryElsewhere(
            "block 0 is not that of the ledger's chain, as far as endpoints answer; the others may know it"
        )
    if begun and not shown:
        await _refuse_another(nodes, begun)
    return next(iter(shown), None)


async def _refuse_another(nodes: NodePool, begun: Beginning) -> None:
    """Raise FixConfiguration where every endpoint shows another block in place of the oldest final one remembered.

    The newest final block alone decides nothing: the watch halts where that one has changed.
    """
    if len(begun.final_blocks) < 2:
        return
    number, known = begun.final_blocks[0]
    others, answers = await _shown(nodes, number, known)
    if known not in others and len(others) == 1 and answers == _LOOKS * len(nodes.nodes):
        raise FixConfiguration(
            f"ledger.url: block {number} of the ledger's chain is 0x{known.hex()}, the nodes of chain.rpc_urls have "
            f"0x{others.pop().hex()}; a chain that was reset needs a new ledger"
        )


async def _shown(nodes: NodePool, number: int, known: bytes | None) -> tuple[set[bytes], int]:
    """The hashes that endpoints show of a block, and how many answers there were, also those without the block."""
    found: set[bytes] = set()
    answers = 0
    for _ in range(_LOOKS):
        shown = await nodes.side.kept(number)
        answers += len(shown)
        found |= {header.hash for header in shown if header is not None}
        if known is not None and known in found:
            break
    return found, answers


T = TypeVar("T")
Held = tuple[bytes | None, bytes | None]  # the contract's hash of a task, and what it holds of the answer

# Where ERC-1967 keeps the address of the code behind a proxy: keccak256("eip1967.proxy.implementation") - 1.
IMPLEMENTATION_SLOT = (int.from_bytes(topic("eip1967.proxy.implementation")) - 1).to_bytes(32)


class TaskManager:
    """The contract's views. All raise RetryElsewhere when no endpoint can answer, StaleNode when none has the block."""

    def __init__(self, nodes: NodePool, address: bytes, convention: Convention, max_span_blocks: int) -> None:
        self._nodes = nodes
        self.address = address
        self.convention = convention
        self._max_span_blocks = max_span_blocks

    async def header(self, number: int) -> Header | None:
        """The block at a height, None when no endpoint has it."""
        return await self._nodes.header(number)

    @property
    def counts_tasks(self) -> bool:
        """True where the contract says how many tasks there are, and numbers them without gaps."""
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
        """True where the contract holds something of each answer; else its event alone must be believed."""
        return self.convention.all_task_responses is not None

    @property
    def shows_answers(self) -> bool:
        """True where an event tells of answers. Where none does, no outcome can ever be confirmed."""
        return self.convention.responded is not None

    @property
    def names_answers(self) -> bool:
        """True where what the contract holds of an answer is the hash of its event."""
        return self.proves_answers and self.convention.hashes_responses

    def response_hash(self, task_index: int, answer: bytes, log: bytes) -> bytes | None:
        """What the contract must hold if this log shows this answer; None if it shows another one."""
        return self.convention.response_hash(task_index, answer, log)

    @property
    def emitters(self) -> Emitters:
        """Who emits the logs there are to read: this contract, and the one that shows answers where that is another."""
        other = self.convention.responded_address
        return self.address if other in (None, self.address) else (self.address, other)

    @property
    def answered_at(self) -> bytes:
        """The address of the function that takes answers."""
        return self.convention.call_address or self.address

    async def ask(self, asked: Sequence[tuple[View[Any], bytes]], at: Header) -> list[bytes | Reverted | Unread]:
        """What each view answers to its call data, each view at its own address, all on the state of block `at`."""
        found: dict[int, bytes | Reverted | Unread] = {}
        for address in dict.fromkeys(view.address or self.address for view, _ in asked):
            here = [place for place, (view, _) in enumerate(asked) if (view.address or self.address) == address]
            answers = await self._nodes.views([asked[place][1] for place in here], address, at)
            found.update(zip(here, answers, strict=True))
        return [found[place] for place in range(len(asked))]

    def is_task(self, word: bytes | None, task_hash: bytes) -> bool:
        """Return whether the contract's word for a task is this one's hash, or, without `task.hash`, that it is."""
        return word == task_hash if self.convention.hashes_tasks else word is not None

    def creates_task(self, log: Log) -> bool:
        """True for a log of the event that creates tasks, of a task that is ours."""
        here = log.address == self.address and log.topics[0] == self.convention.created_topic
        return here and self.convention.is_own_task(log)

    def shows_answer(self, log: Log) -> bool:
        """True for a log of the event that shows answers, to a task that is ours."""
        there = self.convention.responded_address or self.address
        here = log.address == there and log.topics[0] == self.convention.responded_topic
        return here and self.convention.is_own_response(log)

    def matches_log(self, task: Task) -> bool:
        """Whether the log that is kept with a task tells of this very task: its index, its hash and what it asks."""
        return self.convention.matches_log(task)

    async def response_window(self, at: Header) -> int | None:
        """The response window in blocks, None where there is none.

        Raises RetryElsewhere for a window of 0: no response could ever be in time, and it is what empty caches say.
        """
        view = self.convention.response_window
        if view is None:
            return self.convention.window_blocks
        window: int = (await self._read(view, [()], at))[0]
        if window == 0:
            raise RetryElsewhere(f"{view.signature} is 0 at block {at.number}: a node that has no state says so, too")
        return window

    async def aggregator(self, at: Header) -> bytes | None:
        """The one address the contract takes answers from; None where it names none."""
        view = self.convention.aggregator
        if view is None:
            return None
        (found,) = await self.ask([(view, view.call())], at)
        is_named = isinstance(found, Unread) or (isinstance(found, bytes) and len(found) == 32)
        return view.read(found) if is_named else None

    async def implementation_and_code(self, at: Header) -> tuple[bytes | None, bytes | None]:
        """The word where proxies keep the address of their code, and the code itself; None where no node will say."""
        return await self._nodes.side.account(self.address, IMPLEMENTATION_SLOT, at)

    async def has_no_code(self, at: Header) -> bool:
        """True when a node says that there is no code at the address; False also when none will say."""
        try:
            return await self._nodes.side.code(self.address, at.number) == b""
        except RetryElsewhere:
            return False

    async def simulate(self, calls: Sequence[bytes], sender: bytes, at: Header) -> list[bytes | Reverted | Unread]:
        """What the contract would say to these calls of `sender`, each on the state of block `at`."""
        return await self._nodes.views(calls, self.answered_at, at, sender)

    async def latest_task_num(self, at: Header) -> int:
        """The next index, one more than the last one given out; `lowest_index` without a task.

        Only where `counts_tasks`.
        """
        assert self.convention.latest_task_num is not None, "asked only of contracts that count"
        count: int = (await self._read(self.convention.latest_task_num, [()], at))[0]
        return count

    async def hashes_and_responses(self, indices: Sequence[int], at: Header) -> list[Held | Unread]:
        """What the contract holds of the task and of its answer, per index, read in one breath.

        None where it holds nothing, and where it has no such view. An index that cannot be read (its view reverts, a
        node refuses it) is Unread and says nothing of the others.

        Raises NoSuchView when every answer is empty, RetryElsewhere when of several indices not one can be read.
        """
        views = [view for view in (self.convention.all_task_hashes, self.convention.all_task_responses) if view]
        found = await self.ask([(view, view.call(i)) for i in indices for view in views], at)
        if found and not any(found):
            views[0].read(found[0])  # raises: there is no code at the address, or none of this convention
        refused = [answer for answer in found if isinstance(answer, Unread)]
        if len(indices) > 1 and len(refused) == len(found):
            raise RetryElsewhere(refused[0].reason)
        words = iter(found)
        return [self._held(words) for _ in indices]

    def _held(self, words: Iterator[bytes | Reverted | Unread]) -> Held | Unread:
        """The readings of one index, in the order asked."""
        of_task, of_answer = self.convention.all_task_hashes, self.convention.all_task_responses
        task = None if of_task is None else item(of_task, next(words))
        answer = None if of_answer is None else item(of_answer, next(words))
        if isinstance(task, Unread):
            return task
        return answer if isinstance(answer, Unread) else (task, answer)

    async def first_index(self, start_block: int, at: Header, lowest: Place | None) -> int:
        """The index of the first task created at or after `start_block`: its count just before, as of `at`.

        Where no node keeps that old a state, the creation logs below the lowest task known are searched downwards:
        indices come in the order of the blocks, so that none of them lies behind it.
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
        found = lowest or Place(await self.latest_task_num(at), at.number)
        while found.task_index > lowest_index:
            logs = await self.find_created(found.task_index - 1, start_block, found.block_number)
            if not logs:
                break
            found = Place(found.task_index - 1, logs[-1].block_number)
        return max(found.task_index, lowest_index)

    async def find_created(self, index: int, first: int, last: int) -> tuple[Log, ...]:
        """The creation logs of one index between two blocks, both included, by its indexed topic."""
        # A filtered search returns next to nothing, so its spans may be far longer than those of the watch.
        step = self._max_span_blocks * 50
        if self.convention.index_topic(index) is None:
            return ()
        found: tuple[Log, ...] = ()
        for low in range(first, last + 1, step):
            found += await self._find(index, low, min(low + step - 1, last))
        return found

    async def _find(self, index: int, first: int, last: int) -> tuple[Log, ...]:
        convention = self.convention
        try:
            return await self._nodes.find(
                self.address, convention.created_topic, convention.index_topic(index), first, last
            )
        except NarrowRange:
            middle = (first + last) // 2
            return await self._find(index, first, middle) + await self._find(index, middle + 1, last)

    async def _read(self, view: View[T], arguments: Sequence[tuple[int, ...]], at: Header) -> list[T]:
        found = await self.ask([(view, view.call(*one)) for one in arguments], at)
        return [view.read(answer) for answer in found]
