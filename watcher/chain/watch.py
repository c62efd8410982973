"""Stage: walk the cursor to the head of the chain. One path serves live, back-fill and the gap after an outage.

Invariants: the cursor moves in the transaction that stores what its blocks hold; it moves only over blocks that the
answering node has, and only from a block the chain still holds; head and finality are what `rpc/agreement.py` finds
proven; the ledger's mark of the head goes back when no node shows it any more, and the cursor when its block
cannot be on the chain (`watcher.chain.rpc.unreached`).
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loguru import logger

from watcher.chain.contract import TaskManager
from watcher.chain.numbering import OWN_BLOCKS, Numbering, UnknownNumbering, contradiction
from watcher.chain.page import Decoded, within_count
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.replies import Log, LogPage
from watcher.chain.rpc.unreached import PATIENCE_FIRST_S
from watcher.errors import Halt, NarrowRange, Quarantine, RetryElsewhere, StaleNode
from watcher.ledger import ingest, marks, queries
from watcher.ledger.history import history
from watcher.ledger.source import Cursor, note_event
from watcher.ledger.store import Ledger
from watcher.task import Header, Responded, Task

# Above this many logs the loop would stall while they are decoded.
_DECODE_ASIDE = 300
# A chain that counts other blocks shows it in each of its tasks; a flood of forged ones costs one question.
_CONTRADICTING_ASKED = 100
_GROW_AFTER_PAGES = 16
_HASHES_ASKED = 64

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class WatchPlan:
    """How to walk. `finality` is a block tag, or a depth in blocks below the head.

    What one of several nodes alone calls final counts only `confirmations` blocks below the head.
    """

    chain_id: int
    finality: str | int
    max_span_blocks: int
    poll_interval_s: float
    confirmations: int = 0
    numbering: Numbering = OWN_BLOCKS


class Watch:
    """Reads `NewTaskCreated` and `TaskResponded` together, range by range, into the ledger.

    `progress(block, head_block)` is told how far the cursor is after each range.
    """

    name = "watch"

    def __init__(
        self,
        nodes: NodePool,
        contract: TaskManager,
        ledger: Ledger,
        plan: WatchPlan,
        window_blocks: int | None,
        progress: Progress = lambda _block, _head: None,
    ) -> None:
        self._nodes = nodes
        self._contract = contract
        self._ledger = ledger
        self._plan = plan
        self._progress = progress
        self.window_blocks = window_blocks
        self._span = plan.max_span_blocks
        self._pages_since_refusal = 0
        self._finality_seen_at = -1

    async def step(self) -> float:
        """Read one range, or find out that there is nothing to read. Returns the seconds until the next look.

        Raises Halt when a final block has changed.
        """
        cursor = await self._ledger.read(queries.cursor, self._ledger.source_id)
        self._nodes.follow(Header(cursor.block, cursor.hash, b"") if cursor.hash else None)
        head = await self._nodes.head()
        if head.number < cursor.head_block and self._nodes.shows_less_for_s(cursor.head_block) >= PATIENCE_FIRST_S:
            await self._lower(cursor, head)
        if head.number < cursor.block:
            if await self._go_back(cursor, head):
                return 0
            return self._plan.poll_interval_s  # the node lags, or the chain was cut short: no evidence either way
        if head.number == cursor.block:
            if cursor.hash not in (None, head.hash):
                await self._rewind(cursor, head)
                return 0
            await self._finality(cursor, head)
            return self._plan.poll_interval_s
        try:
            return await self._advance(cursor, head)
        except NarrowRange as refusal:
            self._narrow(refusal)
            return 0

    async def _advance(self, cursor: Cursor, head: Header) -> float:
        first = cursor.block + 1
        last = min(head.number, first + self._span - 1)
        after = Header(cursor.block, cursor.hash, b"") if cursor.hash else None
        topics0 = self._contract.convention.topics0
        page = await self._nodes.page(self._contract.emitters, topics0, first, last, after, head)
        if not page.continuous:
            await self._rewind(cursor, head)
            return 0
        tasks, responses = await self._decode(page)
        await self._refuse_other_numbering(tasks, page.last)
        new = await self._ledger.write(
            ingest.record, self._ledger.source_id, tasks, responses, page.last, head.number, head.l1_block
        )
        if new:
            logger.info("{} new tasks in blocks {} to {}", new, first, last)
        if cursor.begun_block is not None and first <= cursor.begun_block <= last:
            await self._say_history()
        self._progress(last, head.number)
        self._widen()
        cursor = await self._ledger.read(queries.cursor, self._ledger.source_id)
        if last == head.number:
            await self._finality(cursor, head)
            return self._plan.poll_interval_s
        return 0

    async def _decode(self, page: LogPage) -> tuple[list[Task], list[Responded]]:
        if page.foreign:
            await self._note("foreign logs", page.last.number, f"{page.foreign} logs did not belong to the question")
        found = await self.read(page)
        if found.refused:
            await self._note("undecodable log", page.last.number, found.refusals())
        if found.beyond:
            await self._note("tasks beyond the count", page.last.number, found.inventions())
        return found.tasks, found.responses

    async def read(self, page: LogPage) -> Decoded:
        """The logs of a page, decoded; many beside the loop. Tasks the contract has not given out are apart."""
        if len(page.logs) > _DECODE_ASIDE:
            tasks, responses, refused = await asyncio.to_thread(self.decoded, page.logs)
        else:
            tasks, responses, refused = self.decoded(page.logs)
        tasks, beyond, count = await within_count(self._contract, tasks, page.last)
        return Decoded(tasks, responses, refused, beyond, count)

    def decoded(self, logs: Sequence[Log]) -> tuple[list[Task], list[Responded], list[tuple[Log, str]]]:
        """Logs as tasks and responses, and those that are neither with the reason."""
        convention = self._contract.convention
        tasks, responses, refused = [], [], []
        for log in logs:
            try:
                if self._contract.creates_task(log):
                    tasks.append(convention.decode_task(log, self._plan.chain_id, self.window_blocks))
                elif self._contract.shows_answer(log):
                    responses.append(convention.decode_response(log))
            except Quarantine as why:
                refused.append((log, str(why)))
        return tasks, responses, refused

    async def _refuse_other_numbering(self, tasks: Sequence[Task], at: Header) -> None:
        """Raise FixConfiguration before a task is stored with a deadline in numbers that nobody can compare.

        A log may be forged: where the contract holds the tasks' hashes, it must hold this one's.
        """
        contradicting = [(task, words) for task in tasks if (words := contradiction(task, self._plan.numbering))]
        if not contradicting:
            return
        asked = contradicting[:_CONTRADICTING_ASKED]
        found = await self._contract.hashes_and_responses([task.task_index for task, _ in asked], at)
        for (task, words), word in zip(asked, found, strict=True):
            held = word[0] if isinstance(word, tuple) else None
            if not self._contract.proves_tasks or self._contract.is_task(held, task.task_hash):
                raise UnknownNumbering(words)

    async def _note(self, kind: str, block_number: int, words: str) -> None:
        logger.warning("{} in block {}: {}", kind, block_number, words)
        await self._ledger.write(note_event, self._ledger.source_id, kind, block_number, words)

    async def _say_history(self) -> None:
        """One line for all that was over before the ledger was begun, once it is read."""
        found = await self._ledger.read(history, self._ledger.source_id)
        if found is not None and found.answered + found.late:
            logger.info(
                "before this ledger was begun at block {}, {} tasks were answered and {} passed their deadline: "
                "they were not ours to answer",
                found.block,
                found.answered,
                found.late,
            )

    async def _lower(self, cursor: Cursor, head: Header) -> None:
        """Take the mark of the head back: no node has shown it for a while. What was read stays the least of it."""
        mark = max(head.number, cursor.block)
        if mark < cursor.head_block:
            logger.warning("no endpoint shows block {} any more: the head is {}", cursor.head_block, mark)
            await self._ledger.write(marks.lower_head, self._ledger.source_id, mark, head.l1_block)

    async def _finality(self, cursor: Cursor, head: Header) -> None:
        """Tell the ledger what is final now. Asked once per head, never beyond the cursor, never backwards."""
        if head.number == self._finality_seen_at:
            return
        final = await self._nodes.final(self._plan.finality, head, self._plan.confirmations)
        if final is not None:
            block = final.block
            highest = block.number if cursor.hash is None else min(block.number, cursor.block)
            if highest > (cursor.firm_block if final.firm else cursor.final_block):
                # Asked after the final block: a chain that still holds the cursor's block then has no other final one.
                here = await self._nodes.header(cursor.block, head)
                if cursor.hash is not None:
                    if here is None or here.hash != cursor.hash:
                        return  # what is final lies on a fork that was not read; the next step goes back to its start
                    block = min(block, here, key=lambda one: one.number)
                await self._ledger.write(ingest.finalise, self._ledger.source_id, block, firm=final.firm)
        self._finality_seen_at = head.number

    async def _rewind(self, cursor: Cursor, head: Header) -> None:
        """Go back to the newest block that the ledger and the chain that ends in `head` share."""
        shared = await self._shared(cursor, head)
        lost = await self._ledger.write(ingest.rewind, self._ledger.source_id, shared)
        self._finality_seen_at = -1
        logger.warning(
            "the chain changed above block {}: {} blocks are read again, {} tasks lost their block",
            shared.number,
            cursor.block - shared.number,
            lost,
        )

    async def _go_back(self, cursor: Cursor, head: Header) -> bool:
        """Leave a cursor that lies on invented blocks. Returns False while that is not proven, or they are firm."""
        if cursor.hash is None or cursor.firm_block > head.number:
            return False
        block = Header(cursor.block, cursor.hash, b"")
        if not await self._nodes.unreached.disproves(block, head):
            return False
        shared = await self._shared(cursor, head)
        lost = await self._ledger.write(ingest.unread, self._ledger.source_id, shared, head)
        self._nodes.unreached.left()
        self._finality_seen_at = -1
        logger.warning(
            "block {}, which was read, is not on the chain: its head is {}, younger and lower; "
            "blocks above {} are read again, {} tasks lost their block",
            cursor.block,
            head.number,
            shared.number,
            lost,
        )
        return True

    async def _shared(self, cursor: Cursor, head: Header) -> Header:
        below = min(cursor.block, head.number)
        for mark in (Header(cursor.final_block, cursor.final_hash or b"", b""), cursor.firm):
            if mark.number > below:
                continue  # called final by too few, on blocks that the chain does not reach
            shared = await self._known(mark.number, below, head)
            if shared is None and mark.hash:
                theirs = await self._nodes.header(mark.number, head)
                if theirs is None:
                    raise StaleNode(f"a node does not have block {mark.number}, which is final")
                shared = theirs if theirs.hash == mark.hash else None
            if shared is not None:
                return shared
            below = mark.number - 1
        if cursor.firm.hash:
            await self._halt(cursor.firm.number)
        return Header(cursor.start_block - 1, b"", b"")

    async def _known(self, lowest: int, below: int, head: Header) -> Header | None:
        """The newest block from `below` down to `lowest` that both the ledger and the chain hold."""
        while known := await self._ledger.read(
            queries.known_hashes, self._ledger.source_id, max(lowest, 0), below, _HASHES_ASKED
        ):
            for ours in known:
                theirs = await self._nodes.header(ours.number, head)
                if theirs is None:
                    raise RetryElsewhere(f"a node that has block {head.number} does not have block {ours.number}")
                if theirs.hash == ours.hash:
                    return theirs
            below = known[-1].number - 1
        return None

    async def _halt(self, block: int) -> None:
        words = f"block {block} was final and has changed: the chain broke its promise, or this is another one"
        await self._note("finality broken", block, words)
        raise Halt(f"{words}. Nothing more is sent. Check chain.rpc_urls; a reset chain needs a new ledger")

    def _narrow(self, refusal: NarrowRange) -> None:
        self._span = max(1, self._span // 2)
        self._pages_since_refusal = 0
        logger.info("the node refused the span, trying {} blocks: {}", self._span, refusal)

    def _widen(self) -> None:
        self._pages_since_refusal += 1
        if self._span < self._plan.max_span_blocks and self._pages_since_refusal >= _GROW_AFTER_PAGES:
            self._span = min(self._span * 2, self._plan.max_span_blocks)
            self._pages_since_refusal = 0
