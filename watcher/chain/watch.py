"""Stage: walk the cursor to the head of the chain. One path serves live, back-fill and the gap after an outage.

Invariants: the cursor moves in the transaction that stores the logs of its blocks; it moves only over blocks that the
answering node has, and only from a block the chain still holds; `rpc/agreement.py` proves head and finality; the
ledger's mark of the head goes back when no node shows it any more, and the cursor when its block cannot be on the chain
(`watcher.chain.rpc.unreached`).
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from loguru import logger

from watcher.chain.final_block import FinalBlock
from watcher.chain.numbering import UnknownNumbering, contradiction
from watcher.chain.page import LogReader
from watcher.chain.page_report import report
from watcher.chain.read_ahead import ReadAhead
from watcher.chain.rpc.calls import LogQuery
from watcher.chain.rpc.poll import Pushed, Subject, prefetch
from watcher.chain.rpc.unreached import PATIENCE_FIRST_S
from watcher.chain.source import Source
from watcher.chain.span import Span
from watcher.chain.task_lines import SeenLines
from watcher.errors import Halt, NarrowRange, RetryElsewhere, StaleNode
from watcher.ledger import ingest, marks, queries, reorg
from watcher.ledger.cursor import Cursor
from watcher.ledger.history import history
from watcher.ledger.source import note_event
from watcher.task import Header, Task

# A chain that counts other blocks shows it in each of its tasks; a flood of forged ones costs one call.
_CONTRADICTING_ASKED = 100
_HASHES_ASKED = 64
_HINTS = 64  # kept between two steps; the poll needs none

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class WatchPlan:
    """The settings of the walk. `finality` is a block tag, or a depth in blocks below the head.

    A block that one of several nodes alone calls final counts only `confirmations` blocks below the head.
    """

    chain_id: int
    finality: str | int
    max_span_blocks: int
    poll_interval_s: float
    confirmations: int = 0


class Watch:
    """Reads the events that create tasks and show responses, range by range, into the ledger."""

    name = "watch"

    def __init__(self, source: Source, plan: WatchPlan, progress: Progress = lambda _block, _head: None) -> None:
        """`progress(cursor_block, head_block)` is called after each range."""
        self._source = source
        self._nodes = source.nodes
        self._contract = source.contract
        self._ledger = source.ledger
        self._plan = plan
        self._progress = progress
        self._lines = SeenLines(source.clock)
        self.reader = LogReader(source.contract, plan.chain_id, source.window_blocks)
        self._read_ahead = ReadAhead(source.nodes, self.reader)
        self._span = Span(plan.max_span_blocks)
        self._final = FinalBlock(source, plan.finality, plan.confirmations)
        self._pushed: list[Pushed | None] = []
        self._read: Pushed | None = None  # the head, where the last step has read it whole
        self._looked_s = 0.0

    def push(self, block: Pushed | None) -> None:
        """Take the hint that the chain has a block; None: that it has changed somehow."""
        if len(self._pushed) < _HINTS:
            self._pushed.append(block)

    async def step(self) -> float:
        """Read one range, or find that there is nothing to read. Return the seconds until the next step.

        Raises:
            RetryElsewhere: no endpoint answers, or the endpoints disagree.
            Halt: a final block has changed.
            FixConfiguration: the contract counts other blocks than the nodes show.
        """
        hints, self._pushed = self._pushed, []
        if (rest_s := self._rest_s(hints)) > 0:
            return rest_s
        self._read, self._looked_s = None, self._source.clock.monotonic_s()
        cursor = await self._source.cursor()
        self._nodes.follow(Header(cursor.block, cursor.hash, b"") if cursor.hash else None)
        named = [hint for hint in hints if hint is not None and hint.number > cursor.block]
        block = max(named, key=lambda hint: (hint.number, hint.concerns), default=None)
        head = await prefetch(self._nodes, self._subject(cursor, block), None if block is None else block.number)
        if head.number < cursor.head_block and self._nodes.shows_less_for_s(cursor.head_block) >= PATIENCE_FIRST_S:
            await self._lower(cursor, head)
        if head.number < cursor.block:
            if await self._go_back(cursor, head):
                return 0
            return self._plan.poll_interval_s  # the node lags, or the chain became shorter: no evidence for either
        if head.number == cursor.block:
            if cursor.hash not in (None, head.hash):
                await self._rewind(cursor, head)
                return 0
            await self._final.record(cursor, head)
            self._read = Pushed(head.number, head.hash)
            return self._plan.poll_interval_s
        try:
            return await self._advance(cursor, head)
        except NarrowRange as refusal:
            self._span.narrow(refusal)
            return 0

    def _rest_s(self, hints: Sequence[Pushed | None]) -> float:
        """Return the seconds left to the next poll, if the hints name only the head that was read; else 0."""
        if not hints or self._read is None or any(hint != self._read for hint in hints):
            return 0
        return self._plan.poll_interval_s - (self._source.clock.monotonic_s() - self._looked_s)

    async def _advance(self, cursor: Cursor, head: Header) -> float:
        query = self._query(cursor.block, cursor.hash, head)
        first, last = query.first, query.last
        taken = self._read_ahead.take(query)
        if taken is None:
            page = await self._nodes.page(query, head)
            if not page.continuous:
                await self._rewind(cursor, head)
                return 0
            is_head = page.last.hash == head.hash and head.number >= cursor.head_block
            taken = page, await self.reader.read(page, at_once=is_head and not self._plan.confirmations)
        page, decoded = taken
        await report(page, decoded, self._ledger)
        await self._refuse_other_numbering(decoded.tasks, page.last)
        self._span.widen()
        read = replace(cursor, block=last, hash=page.last.hash)
        final = await self._final.beside(read, head) if last == head.number else None
        stored = self._ledger.write(
            ingest.record,
            self._ledger.source_id,
            decoded.tasks,
            decoded.responses,
            page.last,
            head.number,
            head.l1_block,
            decoded.proved,
            None if final is None else (final.block, final.firm),
        )
        following = self._query(last, page.last.hash, head)
        if following.last < head.number:
            new, _ = await asyncio.gather(stored, self._read_ahead.read(following, head))
        else:
            new = await stored
        self._source.trace.step("seen", [task.task_index for task in new], self._looked_s)
        self._lines.seen(new, cursor.begun_block)
        if cursor.begun_block is not None and first <= cursor.begun_block <= last:
            await self._log_history()
        self._progress(last, head.number)
        self._source.pace.follow(head)
        if last == head.number:
            await self._final.record(read, head)
            self._read = Pushed(head.number, head.hash)
            await self._source.cursor()  # the next step, which a block will be waiting for, need not read it
            return self._plan.poll_interval_s
        return 0

    def _subject(self, cursor: Cursor, block: Pushed | None) -> Subject:
        """Return what a look reads beside the head, after the push of `block`."""
        contract, finality = self._contract, self._plan.finality
        tag = finality if isinstance(finality, str) else None
        views = [] if self._plan.confirmations else self.reader.ahead.calls(block)
        topics = contract.convention.topics0
        return Subject(
            cursor.block, contract.emitters, topics, contract.log_queries, tag, self._final.steady_behind, views
        )

    def _query(self, block: int, block_hash: bytes | None, head: Header) -> LogQuery:
        """Return the question for the range above a block that was read."""
        after = Header(block, block_hash, b"") if block_hash else None
        return self._contract.log_query(block + 1, min(head.number, block + self._span.blocks), after)

    async def _refuse_other_numbering(self, tasks: Sequence[Task], at: Header) -> None:
        """Raise UnknownNumbering before a task is stored with a deadline that cannot be compared with any block.

        A log may be forged: where the contract holds the hashes of tasks, it must hold the hash of this task.
        """
        contradicting = [(task, reason) for task in tasks if (reason := contradiction(task, self._source.numbering))]
        if not contradicting:
            return
        asked = contradicting[:_CONTRADICTING_ASKED]
        readings = await self._contract.hashes_and_responses([task.task_index for task, _ in asked], at)
        for (task, reason), reading in zip(asked, readings, strict=True):
            task_word = reading[0] if isinstance(reading, tuple) else None
            if not self._contract.proves_tasks or self._contract.is_task(task_word, task.task_hash):
                raise UnknownNumbering(reason)

    async def _note(self, kind: str, block_number: int, message: str) -> None:
        await self._ledger.write(note_event, self._ledger.source_id, kind, block_number, message)

    async def _log_history(self) -> None:
        """Log one line about all tasks that were over before the ledger was begun, once they are read."""
        past = await self._ledger.read(history, self._ledger.source_id)
        if past is not None and past.answered + past.late:
            logger.info(
                "chain.history: these tasks were over before this ledger was begun",
                begun_block=past.block,
                answered=past.answered,
                expired=past.late,
            )

    async def _lower(self, cursor: Cursor, head: Header) -> None:
        """Lower the mark of the head, which no node has shown for a while, but not below the cursor."""
        mark = max(head.number, cursor.block)
        if mark < cursor.head_block:
            logger.warning(
                "chain.head_lowered: no endpoint shows the highest known block any more",
                block=cursor.head_block,
                head=mark,
            )
            await self._ledger.write(marks.lower_head, self._ledger.source_id, mark, head.l1_block)

    async def _rewind(self, cursor: Cursor, head: Header) -> None:
        """Go back to the newest block that the ledger and the chain that ends in `head` share."""
        shared = await self._shared(cursor, head)
        lost = await self._ledger.write(reorg.rewind, self._ledger.source_id, shared)
        self._final.forget()
        logger.warning(
            "chain.reorg: the chain changed; the blocks above the shared block are read again",
            shared_block=shared.number,
            blocks=cursor.block - shared.number,
            tasks=lost,
        )

    async def _go_back(self, cursor: Cursor, head: Header) -> bool:
        """Leave a cursor on blocks that never were on the chain. Return False while that is not proven, or final."""
        if cursor.hash is None or cursor.firm_block > head.number:
            return False
        block = Header(cursor.block, cursor.hash, b"")
        if not await self._nodes.unreached.disproves(block, head):
            return False
        shared = await self._shared(cursor, head)
        lost = await self._ledger.write(reorg.unread, self._ledger.source_id, shared, head)
        self._nodes.unreached.left()
        self._final.forget()
        logger.warning(
            "chain.blocks_invented: a block that was read is not on the chain; the blocks above the shared block are "
            "read again",
            block=cursor.block,
            head=head.number,
            shared_block=shared.number,
            tasks=lost,
        )
        return True

    async def _shared(self, cursor: Cursor, head: Header) -> Header:
        below = min(cursor.block, head.number)
        for mark in (Header(cursor.final_block, cursor.final_hash or b"", b""), cursor.firm):
            if mark.number > below:
                continue  # too few nodes called it final, and the chain does not reach it
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
        """Return the newest block from `below` down to `lowest` that both the ledger and the chain hold."""
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
        message = f"block {block} was final and has changed: the chain broke finality, or this is another chain"
        await self._note("finality broken", block, message)
        raise Halt(f"{message}. Nothing more is sent. Check chain.rpc_urls; a reset chain needs a new ledger")
