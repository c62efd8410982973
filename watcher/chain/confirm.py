"""Stage: the outcome on the chain of every task that was sent, or that can no longer be sent.

Invariant: a task is answered when our own reading of the chain shows the response, final only at finality, and expired
only when a final head is past its deadline.
"""

import asyncio
from collections.abc import Sequence

from watcher.chain.absence import AbsenceRule, EventSearch
from watcher.chain.dry_run import DryRun
from watcher.chain.expiry import Expiry
from watcher.chain.outcome_lines import OutcomeLines
from watcher.chain.resend import Pause, pause
from watcher.chain.resolve import Resolver
from watcher.chain.rpc.replies import Unread
from watcher.chain.source import Source
from watcher.errors import RetryElsewhere
from watcher.ledger import absences, outcomes, sending, stats
from watcher.ledger.cursor import Cursor
from watcher.ledger.outcomes import Missing
from watcher.state import NOT_HELD, State
from watcher.task import (
    Absent,
    Expired,
    Header,
    NoEvidence,
    NotYet,
    OpenTask,
    Orphaned,
    Responded,
    RespondedByUs,
    RespondedOtherwise,
    Verdict,
)

_BATCH = 200
_SENT = frozenset({State.UNKNOWN, State.ACCEPTED})
# The ends that rest on an absence are resolved again after so long.
_REVIEW_S = 60.0


class Confirm:
    """Follows every task until the chain has settled it."""

    name = "confirm"

    def __init__(
        self,
        source: Source,
        idle_s: float,
        patience_blocks: int = 5,
        dry_run: DryRun | None = None,
        quorum: int = 1,
    ) -> None:
        """Set up the stage.

        Args:
            source: nodes, contract, ledger and clock.
            idle_s: seconds between two steps when there is nothing to do.
            patience_blocks: blocks after which an attempt that another process left behind counts as over.
            dry_run: finds the contract's reason against an answer that never came.
            quorum: the number of endpoints that give each reading of the contract alike.
        """
        self._source = source
        self._nodes = source.nodes
        self._contract = source.contract
        self._ledger = source.ledger
        self._clock = source.clock
        self._resolver = Resolver(source)
        self._idle_s = idle_s
        self._patience_blocks = patience_blocks
        self._dry_run = dry_run
        self._absence = AbsenceRule(source.ledger, source.clock, quorum)
        self._expiry = Expiry(source, self._absence, dry_run)
        self._search = EventSearch(source.ledger, source.clock)
        self._lines = OutcomeLines(source.clock, source.trace)
        self._reviewed_s: float | None = None

    async def step(self) -> float:
        """Handle one batch of each kind, whatever comes of the others. Return the seconds until the next step.

        Raises:
            RetryElsewhere: the first error of a kind, once every kind has had its turn.
        """
        await self._ledger.write(
            sending.recover_stale, self._ledger.source_id, all_of_them=False, patience_blocks=self._patience_blocks
        )
        first_error: RetryElsewhere | None = None
        is_full = False
        for kind in (self._confirm, self._look_again, self._finalise, self._end, self._review):
            try:
                is_full |= await kind() == _BATCH
            except RetryElsewhere as error:
                first_error = first_error or error
        if first_error is not None:
            raise first_error
        return 0 if is_full else self._idle_s

    async def _confirm(self) -> int:
        """Resolve the tasks that were sent, and may have been answered or lost. Return their number."""
        sent = await self._ledger.read(outcomes.to_confirm, self._ledger.source_id, self._clock.now_ms(), _BATCH)
        tasks = sent if self._contract.shows_answers else await self._deliver(sent)
        if tasks:
            cursor = await self._source.cursor()
            await self._apply(tasks, await self._resolver.resolve(tasks), cursor)
        return len(sent)

    async def _end(self) -> int:
        """Resolve the tasks whose deadline is past at finality. Return their number."""
        past = await self._ledger.read(outcomes.past_deadline, self._ledger.source_id, self._clock.now_ms(), _BATCH)
        tasks = past if self._contract.shows_answers else await self._deliver(past)
        if tasks:
            cursor = await self._source.cursor()
            resolved = list(zip(tasks, await self._resolver.past_deadline(tasks), strict=True))
            late = [(task, verdict.at) for task, verdict in resolved if isinstance(verdict, Expired)]
            gone = [(task, verdict) for task, verdict in resolved if isinstance(verdict, Orphaned)]
            rest = [(task, verdict) for task, verdict in resolved if not isinstance(verdict, Expired | Orphaned)]
            await self._apply([task for task, _ in rest], [verdict for _, verdict in rest], cursor)
            for empty in (False, True):
                not_held = [(task, verdict.at) for task, verdict in gone if verdict.empty is empty]
                if not_held:
                    await self._expiry.not_held([task for task, _ in not_held], not_held[0][1], empty=empty)
            if late:
                await self._expiry.unanswered([task for task, _ in late], late[0][1])
        return len(past)

    async def _deliver(self, tasks: Sequence[OpenTask]) -> list[OpenTask]:
        """End the accepted tasks of a contract that shows no outcome. Return the other tasks."""
        accepted = [task for task in tasks if task.state is State.ACCEPTED]
        self._lines.delivered(await self._ledger.write(outcomes.delivered, accepted))
        return [task for task in tasks if task.state is not State.ACCEPTED]

    async def _apply(self, tasks: Sequence[OpenTask], verdicts: Sequence[Verdict], before: Cursor) -> None:
        """Record the verdicts; `before` is the cursor as it was before the chain was asked."""
        ours: list[tuple[OpenTask, Responded]] = []
        others: list[tuple[OpenTask, Responded]] = []
        missing: list[tuple[OpenTask, Header]] = []
        unclear: list[OpenTask] = []
        unlogged: list[OpenTask] = []
        for task, verdict in zip(tasks, verdicts, strict=True):
            match verdict:
                case RespondedByUs(event):
                    ours.append((task, event))
                case RespondedOtherwise(event):
                    others.append((task, event))
                case NoEvidence(event_missing=True):
                    unlogged.append(task)
                case NotYet(at) if task.state in _SENT:
                    missing.append((task, at))
                case _:
                    unclear.append(task)
        self._lines.landed(await self._ledger.write(outcomes.answered, ours, by_us=True), ours)
        self._lines.answered_by_other(await self._ledger.write(outcomes.answered, others, by_us=False), others)
        await self._search.run(unlogged, before)
        if missing:
            reasons = await self._reasons_against([task for task, _ in missing], missing[0][1])
            await self._send_again(missing, reasons)
        if unclear:
            # Due at the block after `before`: an answer that was read meanwhile came with it, and is resolved now.
            await self._ledger.write(outcomes.look_again, unclear, before.head_block + 1)

    async def _look_again(self) -> int:
        """Resolve the tasks that a response event names, or whose log is there again. Return their number."""
        named = await self._ledger.read(outcomes.to_look_again, self._ledger.source_id, _BATCH)
        if named:
            answered = await self._reconsider([entry.task for entry in named])
            unfounded = [entry for entry in named if entry.task.row_id not in answered]
            await self._ledger.write(outcomes.nothing_new, unfounded)
        return len(named)

    async def _review(self) -> int:
        """Resolve the newest ends that rest on an absence: a node may show now what no node showed then."""
        now_s = self._clock.monotonic_s()
        if self._reviewed_s is None or now_s - self._reviewed_s >= _REVIEW_S:
            ended = await self._ledger.read(absences.ended_lately, self._ledger.source_id, _BATCH)
            if ended:
                await self._reconsider(ended)
            self._reviewed_s = now_s
        return 0

    async def _reconsider(self, tasks: Sequence[OpenTask]) -> set[int]:
        """Resolve tasks in any state. Return the rows of those that the chain shows a response to."""
        cursor = await self._source.cursor()
        verdicts = await self._resolver.resolve(tasks)
        answered: list[tuple[OpenTask, Verdict]] = []
        back: list[OpenTask] = []
        unlogged: list[OpenTask] = []
        for task, verdict in zip(tasks, verdicts, strict=True):
            if task.state in NOT_HELD:
                if self._contract.proves_tasks and not isinstance(verdict, Orphaned):
                    back.append(task)
            elif isinstance(verdict, RespondedByUs | RespondedOtherwise):
                answered.append((task, verdict))
            elif task.state is State.EXPIRED and isinstance(verdict, NoEvidence) and verdict.event_missing:
                unlogged.append(task)
        await self._apply([task for task, _ in answered], [verdict for _, verdict in answered], cursor)
        if back:
            self._lines.held_again(await self._ledger.write(absences.held_after_all, self._ledger.source_id, back))
        await self._search.run(unlogged, cursor)
        return {task.row_id for task, _ in answered}

    async def _reasons_against(self, tasks: Sequence[OpenTask], at: Header) -> Sequence[str | None]:
        return [None] * len(tasks) if self._dry_run is None else await self._dry_run.explain(tasks, at)

    async def _send_again(self, missing: Sequence[tuple[OpenTask, Header]], reasons: Sequence[str | None]) -> None:
        """Make the tasks due at once; ever more slowly where accepted answers never show, as the same bytes fail."""
        lost = (await self._ledger.read(stats.unshown, self._ledger.source_id)).count
        lost += sum(task.state is State.ACCEPTED for task, _ in missing)
        is_slow = lost >= stats.UNSHOWN_LIMIT
        pauses = [pause(task, at, self._patience_blocks) if is_slow else Pause() for task, at in missing]
        causes = await asyncio.gather(*(self._why_not(task) for task, _ in missing))
        items = [
            Missing(task, _resend_reason(cause, refusal, rest), rest.at_block, rest.after_ms)
            for (task, _), cause, refusal, rest in zip(missing, causes, reasons, pauses, strict=True)
        ]
        results = await self._ledger.write_items(outcomes.not_there, items)
        self._lines.sent_again([item for item, result in zip(items, results, strict=True) if isinstance(result, State)])

    async def _why_not(self, task: OpenTask) -> str:
        if task.tx_hash is None:
            return "the chain shows no response"
        receipt = await self._nodes.side.transaction_receipt(task.tx_hash)
        if isinstance(receipt, Unread):
            return "the chain shows no response"
        if receipt is None:
            return "the chain shows no response, and does not know the transaction the API named"
        if not receipt.status:
            return "the transaction the API named failed"
        return "the transaction the API named is mined and carries no response to this task"

    async def _finalise(self) -> int:
        """Finalise the tasks whose response is in a final block. Return their number.

        The event is in a final block, and the state at the head agrees with it. The state of the final block, which
        full nodes drop, would show nothing more.
        """
        tasks = await self._ledger.read(outcomes.to_finalise, self._ledger.source_id, self._clock.now_ms(), _BATCH)
        if not tasks:
            return 0
        cursor = await self._source.cursor()
        if cursor.final_hash is None:
            return 0  # a reorg has just taken back the block that was called final
        final = Header(cursor.final_block, cursor.final_hash, b"")
        if not self._contract.proves_answers:
            # The events alone decide, and they are in final blocks.
            self._lines.final(await self._ledger.write(outcomes.final, tasks, final), final)
            return len(tasks)
        at, readings = await self._resolver.response_hashes(tasks)
        final_tasks, gone, empty, unread = [], [], [], []
        for task, response in zip(tasks, readings, strict=True):
            if isinstance(response, Unread):
                unread.append(task)
            elif response is None:
                empty.append(task)
            elif self._contract.names_answers and response != task.response_hash:
                gone.append(task)
            else:
                final_tasks.append(task)
        gone += await self._absence.proven(empty, Absent.RESPONSE, at)
        self._lines.final(await self._ledger.write(outcomes.final, final_tasks, final), final)
        await self._ledger.write(outcomes.taken_back, gone, at)
        await self._ledger.write(outcomes.look_again, unread, at.number + 1)
        return len(tasks)


def _resend_reason(cause: str, refusal: str | None, rest: Pause) -> str:
    """Return why an answer is sent again: what the chain shows, the contract's reason, a pause that has grown."""
    grown = "accepted answers never show on the chain: compare [signed] with the contract" if rest != Pause() else None
    return "; ".join(part for part in (cause, refusal, grown) if part)
