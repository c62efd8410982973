"""Stage: what was sent, or can no longer be sent -> its outcome on the chain.

Invariant: a task is answered when our own reading of the chain says so, final only at finality, and expired only when
a final head is past its deadline.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from loguru import logger

from watcher.chain.answers import Unread
from watcher.chain.contract import TaskManager
from watcher.chain.endpoints import Endpoints
from watcher.chain.judge import Judge
from watcher.chain.rehearsal import Rehearsal
from watcher.clock import Clock
from watcher.errors import RetryElsewhere
from watcher.ledger import outcome, passes, reading, work
from watcher.ledger.book import Book
from watcher.ledger.source import Cursor
from watcher.task import (
    Expired,
    Header,
    NoEvidence,
    NotYet,
    OpenTask,
    Orphaned,
    Responded,
    RespondedByUs,
    RespondedOtherwise,
    State,
    Verdict,
)

if TYPE_CHECKING:
    from loguru import Logger

_BATCH = 200
_SENT = frozenset({State.UNKNOWN, State.ACCEPTED})
# Of many tasks that expire at once a few tell what is wrong with all.
_EXPLAINED = 20
# So many of those missed together have a line each; a chain read from far back may show thousands.
_TOLD = 20


def _log(held: OpenTask) -> "Logger":
    return logger.bind(task=held.task.task_index)


def _tell_missed(late: Sequence[OpenTask]) -> None:
    for one in late[:_TOLD]:
        _log(one).error(
            "missed: block {}, its deadline, is past at finality, and the contract holds no response",
            one.task.deadline_block,
        )
    if len(late) > _TOLD:
        logger.error("{} more tasks were missed; see `watcher tasks list --state expired`", len(late) - _TOLD)


class Confirm:
    """Follows every task until the chain has settled it."""

    name = "confirm"

    def __init__(
        self,
        nodes: Endpoints,
        contract: TaskManager,
        judge: Judge,
        book: Book,
        clock: Clock,
        idle_s: float,
        patience_blocks: int = 5,
        rehearsal: Rehearsal | None = None,
    ) -> None:
        """`patience_blocks`: what the chain gets to show an attempt nobody waits for any more.

        `rehearsal` tells what the contract has against an answer that never came.
        """
        self._nodes = nodes
        self._contract = contract
        self._judge = judge
        self._book = book
        self._clock = clock
        self._idle_s = idle_s
        self._patience_blocks = patience_blocks
        self._rehearsal = rehearsal

    async def step(self) -> float:
        """Look at one batch of each kind. Returns the seconds until the next look."""
        source, now_ms = self._book.source_id, self._clock.now_ms()
        await self._book.do(work.rescue, source, all_of_them=False, patience_blocks=self._patience_blocks)
        unsettled = await self._book.ask(outcome.to_confirm, source, now_ms, _BATCH)
        if unsettled:
            await self._settle(unsettled)
        named = await self._book.ask(outcome.to_look_again, source, _BATCH)
        if named:
            await self._look_again(named)
        answered = await self._book.ask(outcome.to_finalise, source, now_ms, _BATCH)
        if answered:
            await self._finalise(answered)
        return 0 if _BATCH in (len(unsettled), len(named), len(answered)) else self._idle_s

    async def _settle(self, held: Sequence[OpenTask]) -> None:
        # Asked after the tasks were listed: final at least as far as the list supposes, never less.
        if not self._contract.shows_answers:
            held = await self._deliver(held)
        cursor = await self._book.ask(reading.cursor, self._book.source_id)
        past: list[OpenTask] = []
        open_: list[OpenTask] = []
        for one in held:
            deadline = one.task.deadline_block
            (past if deadline is not None and deadline < cursor.final_block else open_).append(one)
        if past:
            verdicts = await self._judge.at(past, self._final(cursor))
            await self._apply(past, verdicts, cursor, final=True)
            hidden = [isinstance(verdict, NoEvidence) and verdict.event_missing for verdict in verdicts]
            await self._search([one for one, is_hidden in zip(past, hidden, strict=True) if is_hidden])
        if open_:
            await self._apply(open_, await self._judge.resolve(open_), cursor, final=False)

    async def _deliver(self, held: Sequence[OpenTask]) -> list[OpenTask]:
        """No outcome will ever show: what the API has accepted is done, and the rest goes on."""
        await self._book.do(outcome.delivered, [one for one in held if one.state is State.ACCEPTED])
        return [one for one in held if one.state is not State.ACCEPTED]

    async def _apply(
        self, held: Sequence[OpenTask], verdicts: Sequence[Verdict], before: Cursor, *, final: bool
    ) -> None:
        """`before`: the cursor as it stood before the chain was asked."""
        ours: list[tuple[OpenTask, Responded]] = []
        others: list[tuple[OpenTask, Responded]] = []
        late: list[OpenTask] = []
        missing: list[tuple[OpenTask, Header]] = []
        gone: list[tuple[OpenTask, Header]] = []
        unclear: list[OpenTask] = []
        for one, verdict in zip(held, verdicts, strict=True):
            match verdict:
                case RespondedByUs(event):
                    ours.append((one, event))
                case RespondedOtherwise(event):
                    others.append((one, event))
                    _log(one).warning("answered by somebody else in block {}", event.seen_at.block_number)
                case Expired() if final:
                    late.append(one)
                case Orphaned(at) if final:
                    gone.append((one, at))
                case NotYet(at) if one.state in _SENT:
                    missing.append((one, at))
                case _:
                    unclear.append(one)
        await self._book.do(outcome.answered, ours, by_us=True)
        await self._book.do(outcome.answered, others, by_us=False)
        await self._book.do(outcome.expired, late)
        _tell_missed(late)
        await self._explain(late)
        if gone:
            await self._book.do(outcome.never_there, [one for one, _ in gone], gone[0][1])
        if missing:
            said = await self._said([one for one, _ in missing], missing[0][1])
            await asyncio.gather(*(self._send_again(one, words) for (one, _), words in zip(missing, said, strict=True)))
        if unclear:
            # The block after the one known then: an answer read meanwhile came with it, and is looked at now.
            await self._book.do(outcome.look_again, unclear, before.head_block + 1)

    async def _look_again(self, named: Sequence[outcome.Named]) -> None:
        """Tasks of which an event says that they were answered."""
        cursor = await self._book.ask(reading.cursor, self._book.source_id)
        held = [one.held for one in named]
        verdicts = await self._judge.resolve(held)
        told = [isinstance(verdict, RespondedByUs | RespondedOtherwise) for verdict in verdicts]
        await self._apply(
            [one for one, is_told in zip(held, told, strict=True) if is_told],
            [verdict for verdict, is_told in zip(verdicts, told, strict=True) if is_told],
            cursor,
            final=False,
        )
        unfounded = [one for one, is_told in zip(named, told, strict=True) if not is_told]
        await self._book.do(outcome.nothing_new, unfounded)

    async def _search(self, held: Sequence[OpenTask]) -> None:
        """The contract says that these are answered, and every look at the logs so far has missed the event."""
        if held:
            first_block = min(one.task.seen_at.block_number for one in held)
            await self._book.do(passes.repeat, self._book.source_id, passes.FINAL, first_block)

    async def _explain(self, late: Sequence[OpenTask]) -> None:
        """Why no answer came, as far as the contract can tell: asked at the last block that could have brought it.

        They have ended already; where the nodes do not keep that state any more, nothing is said.
        """
        answered = [one for one in late if one.response is not None and one.task.deadline_block is not None]
        if self._rehearsal is None or not answered:
            return
        last_block = answered[0].task.deadline_block
        assert last_block is not None, "those without a deadline do not expire"
        alike = [one for one in answered if one.task.deadline_block == last_block][:_EXPLAINED]
        try:
            at = await self._nodes.header(last_block)
        except RetryElsewhere:
            return
        said = [] if at is None else await self._said(alike, at)
        found = {one.row_id: words for one, words in zip(alike, said, strict=False) if words}
        if found:
            await self._book.do(outcome.explained, found)

    async def _said(self, held: Sequence[OpenTask], at: Header) -> Sequence[str | None]:
        return [None] * len(held) if self._rehearsal is None else await self._rehearsal.explain(held, at)

    async def _send_again(self, held: OpenTask, said: str | None) -> None:
        why = await self._why_not(held)
        if said:
            why = f"{why}; {said}"
        _log(held).warning("{}; it will be sent again", why)
        await self._book.do(outcome.not_there, held, why)

    async def _why_not(self, held: OpenTask) -> str:
        if held.tx_hash is None:
            return "the chain shows no response"
        receipt = await self._nodes.side.transaction_receipt(held.tx_hash)
        if isinstance(receipt, Unread):
            return "the chain shows no response"
        if receipt is None:
            return "the chain shows no response, and does not know the transaction the API named"
        return (
            "the transaction the API named failed"
            if not receipt.status
            else "the transaction the API named is mined and carries no response to this task"
        )

    async def _finalise(self, held: Sequence[OpenTask]) -> None:
        at = self._final(await self._book.ask(reading.cursor, self._book.source_id))
        stands = await self._stands(held, at)
        there = [one for one, still in zip(held, stands, strict=True) if still]
        gone = [one for one, still in zip(held, stands, strict=True) if still is False]
        unread = [one for one, still in zip(held, stands, strict=True) if still is None]
        await self._book.do(outcome.final, there, at)
        await self._book.do(outcome.taken_back, gone, at)
        await self._book.do(outcome.look_again, unread, at.number + 1)

    async def _stands(self, held: Sequence[OpenTask], at: Header) -> list[bool | None]:
        """Does the contract still hold the response each was settled by? None where it could not be read.

        A contract that has no such view cannot say; a reorg would have.
        """
        if not self._contract.proves_answers:
            return [True] * len(held)
        found = await self._contract.hashes_and_responses([one.task.task_index for one in held], at)
        named = self._contract.names_answers
        stands: list[bool | None] = []
        for one, word in zip(held, found, strict=True):
            if isinstance(word, Unread):
                stands.append(None)
            else:
                stands.append(word[1] == one.response_hash if named else word[1] is not None)
        return stands

    @staticmethod
    def _final(cursor: Cursor) -> Header:
        assert cursor.final_hash is not None, "tasks are settled for good only once a final block is known"
        return Header(cursor.final_block, cursor.final_hash, b"")
