"""Stage: what was sent, or can no longer be sent -> its outcome on the chain.

Invariant: a task is answered when our own reading of the chain says so, final only at finality, and expired only when
a final head is past its deadline.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from loguru import logger

from watcher.chain.absence import AbsenceRule
from watcher.chain.contract import TaskManager
from watcher.chain.dry_run import DryRun
from watcher.chain.event_search import EventSearch
from watcher.chain.expiry import Expiry
from watcher.chain.resend import Pause, pause
from watcher.chain.resolve import Resolver
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.replies import Unread
from watcher.clock import Clock
from watcher.errors import RetryElsewhere
from watcher.ledger import absences, claims, outcomes, queries, stats
from watcher.ledger.source import Cursor
from watcher.ledger.store import Ledger
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

if TYPE_CHECKING:
    from loguru import Logger

_BATCH = 200
_NAMED = 20
_SENT = frozenset({State.UNKNOWN, State.ACCEPTED})
# The ends that rest on an absence are looked at again so often.
_REVIEW_S = 60.0


def _log(held: OpenTask) -> "Logger":
    return logger.bind(task=held.task.task_index)


def _log_back(held: Sequence[OpenTask]) -> None:
    some = ", ".join(str(task.task.task_index) for task in held[:_NAMED])
    logger.warning("taken up again, the contract holds them after all: {} tasks, among them {}", len(held), some)


class Confirm:
    """Follows every task until the chain has settled it."""

    name = "confirm"

    def __init__(
        self,
        nodes: NodePool,
        contract: TaskManager,
        resolver: Resolver,
        ledger: Ledger,
        clock: Clock,
        idle_s: float,
        patience_blocks: int = 5,
        dry_run: DryRun | None = None,
        quorum: int = 1,
    ) -> None:
        """`patience_blocks`: what the chain gets to show an attempt nobody waits for any more.

        `dry_run` tells what the contract has against an answer that never came. `quorum`: the number of endpoints
        that give each reading of the contract alike.
        """
        self._nodes = nodes
        self._contract = contract
        self._resolver = resolver
        self._ledger = ledger
        self._clock = clock
        self._idle_s = idle_s
        self._patience_blocks = patience_blocks
        self._dry_run = dry_run
        self._absence = AbsenceRule(ledger, clock, quorum)
        self._expiry = Expiry(nodes, contract, ledger, self._absence, dry_run)
        self._search = EventSearch(ledger, clock)
        self._reviewed_s: float | None = None

    async def step(self) -> float:
        """Look at one batch of each kind, whatever becomes of the others. Returns the seconds until the next look.

        Raises the first RetryElsewhere of a kind once every kind has had its turn.
        """
        await self._ledger.write(
            claims.recover_stale, self._ledger.source_id, all_of_them=False, patience_blocks=self._patience_blocks
        )
        trouble: RetryElsewhere | None = None
        is_full = False
        for kind in (self._confirm, self._look_again, self._finalise, self._end, self._review):
            try:
                is_full |= await kind() == _BATCH
            except RetryElsewhere as error:
                trouble = trouble or error
        if trouble is not None:
            raise trouble
        return 0 if is_full else self._idle_s

    async def _confirm(self) -> int:
        """Tasks that were sent, and may have been answered or lost meanwhile. Returns how many there were."""
        sent = await self._ledger.read(outcomes.to_confirm, self._ledger.source_id, self._clock.now_ms(), _BATCH)
        held = sent if self._contract.shows_answers else await self._deliver(sent)
        if held:
            cursor = await self._ledger.read(queries.cursor, self._ledger.source_id)
            await self._apply(held, await self._resolver.resolve(held), cursor)
        return len(sent)

    async def _end(self) -> int:
        """Tasks whose deadline is past at finality. Returns how many there were."""
        past = await self._ledger.read(outcomes.past_deadline, self._ledger.source_id, self._clock.now_ms(), _BATCH)
        held = past if self._contract.shows_answers else await self._deliver(past)
        if held:
            cursor = await self._ledger.read(queries.cursor, self._ledger.source_id)
            verdicts = await self._resolver.past_deadline(held)
            late = [(task, v.at) for task, v in zip(held, verdicts, strict=True) if isinstance(v, Expired)]
            gone = [(task, v) for task, v in zip(held, verdicts, strict=True) if isinstance(v, Orphaned)]
            rest = [(task, v) for task, v in zip(held, verdicts, strict=True) if not isinstance(v, Expired | Orphaned)]
            await self._apply([task for task, _ in rest], [verdict for _, verdict in rest], cursor)
            for empty in (False, True):
                unknown = [(task, verdict.at) for task, verdict in gone if verdict.empty is empty]
                if unknown:
                    await self._expiry.not_held([task for task, _ in unknown], unknown[0][1], empty=empty)
            if late:
                await self._expiry.unanswered([task for task, _ in late], late[0][1])
        return len(past)

    async def _deliver(self, held: Sequence[OpenTask]) -> list[OpenTask]:
        """No outcome will ever show: what the API has accepted is done, and the rest goes on."""
        await self._ledger.write(outcomes.delivered, [one for one in held if one.state is State.ACCEPTED])
        return [one for one in held if one.state is not State.ACCEPTED]

    async def _apply(self, held: Sequence[OpenTask], verdicts: Sequence[Verdict], before: Cursor) -> None:
        """`before`: the cursor as it stood before the chain was asked."""
        ours: list[tuple[OpenTask, Responded]] = []
        others: list[tuple[OpenTask, Responded]] = []
        missing: list[tuple[OpenTask, Header]] = []
        unclear: list[OpenTask] = []
        unshown: list[OpenTask] = []
        for one, verdict in zip(held, verdicts, strict=True):
            match verdict:
                case RespondedByUs(event):
                    ours.append((one, event))
                case RespondedOtherwise(event):
                    others.append((one, event))
                case NoEvidence(event_missing=True):
                    unshown.append(one)
                case NotYet(at) if one.state in _SENT:
                    missing.append((one, at))
                case _:
                    unclear.append(one)
        await self._ledger.write(outcomes.answered, ours, by_us=True)
        history = await self._ledger.write(outcomes.answered, others, by_us=False)
        for one, event in others:
            if one.row_id not in history:
                _log(one).warning("answered by somebody else in block {}", event.seen_at.block_number)
        await self._search.run(unshown, before)
        if missing:
            said = await self._said([one for one, _ in missing], missing[0][1])
            await self._send_again(missing, said)
        if unclear:
            # The block after the one known then: an answer read meanwhile came with it, and is looked at now.
            await self._ledger.write(outcomes.look_again, unclear, before.head_block + 1)

    async def _look_again(self) -> int:
        """Tasks of which an event says that they were answered, or that were set aside and whose log is there again."""
        named = await self._ledger.read(outcomes.to_look_again, self._ledger.source_id, _BATCH)
        if named:
            answered = await self._look([one.held for one in named])
            unfounded = [one for one in named if one.held.row_id not in answered]
            await self._ledger.write(outcomes.nothing_new, unfounded)
        return len(named)

    async def _review(self) -> int:
        """The newest ends that rest on an absence: a node may show now what it did not show then."""
        now_s = self._clock.monotonic_s()
        if self._reviewed_s is None or now_s - self._reviewed_s >= _REVIEW_S:
            ended = await self._ledger.read(absences.ended_lately, self._ledger.source_id, _BATCH)
            if ended:
                await self._look(ended)
            self._reviewed_s = now_s
        return 0

    async def _look(self, held: Sequence[OpenTask]) -> set[int]:
        """Ask the chain about tasks in whatever state. Returns the rows of those it shows a response to."""
        cursor = await self._ledger.read(queries.cursor, self._ledger.source_id)
        verdicts = await self._resolver.resolve(held)
        answered: list[tuple[OpenTask, Verdict]] = []
        back: list[OpenTask] = []
        unread: list[OpenTask] = []
        for task, verdict in zip(held, verdicts, strict=True):
            if task.state in NOT_HELD:
                if self._contract.proves_tasks and not isinstance(verdict, Orphaned):
                    back.append(task)
            elif isinstance(verdict, RespondedByUs | RespondedOtherwise):
                answered.append((task, verdict))
            elif task.state is State.EXPIRED and isinstance(verdict, NoEvidence) and verdict.event_missing:
                unread.append(task)
        await self._apply([task for task, _ in answered], [verdict for _, verdict in answered], cursor)
        if back:
            _log_back(back)
            await self._ledger.write(absences.held_after_all, self._ledger.source_id, back)
        await self._search.run(unread, cursor)
        return {task.row_id for task, _ in answered}

    async def _said(self, held: Sequence[OpenTask], at: Header) -> Sequence[str | None]:
        return [None] * len(held) if self._dry_run is None else await self._dry_run.explain(held, at)

    async def _send_again(self, missing: Sequence[tuple[OpenTask, Header]], said: Sequence[str | None]) -> None:
        """At once, but where accepted answers never show: then ever more slowly, for the same bytes fail alike."""
        lost = (await self._ledger.read(stats.unshown, self._ledger.source_id)).count
        lost += sum(one.state is State.ACCEPTED for one, _ in missing)
        pauses = [
            pause(one, at, self._patience_blocks) if lost >= stats.UNSHOWN_LIMIT else Pause() for one, at in missing
        ]
        each = zip(missing, said, pauses, strict=True)
        await asyncio.gather(*(self._send_one_again(one, words, rest) for (one, _), words, rest in each))

    async def _send_one_again(self, held: OpenTask, said: str | None, rest: Pause) -> None:
        why = await self._why_not(held)
        if said:
            why = f"{why}; {said}"
        if rest != Pause():
            why = f"{why}; accepted answers never show on the chain: compare [signed] with the contract"
        _log(held).warning("{}; it will be sent again", why)
        await self._ledger.write(outcomes.not_there, held, why, rest.at_block, rest.after_ms)

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

    async def _finalise(self) -> int:
        """Tasks whose response is in a final block. Returns how many there were.

        The event is in a final block, and the state at the head agrees with it: the state of the final block itself,
        which full nodes drop, says nothing more.
        """
        held = await self._ledger.read(outcomes.to_finalise, self._ledger.source_id, self._clock.now_ms(), _BATCH)
        if not held:
            return 0
        cursor = await self._ledger.read(queries.cursor, self._ledger.source_id)
        if cursor.final_hash is None:
            return 0  # a reorg has just taken back what was called final
        final = Header(cursor.final_block, cursor.final_hash, b"")
        if not self._contract.proves_answers:
            await self._ledger.write(outcomes.final, held, final)  # the events alone tell, and theirs are final blocks
            return len(held)
        at, found = await self._resolver.response_hashes(held)
        there, gone, empty, unread = [], [], [], []
        for task, response in zip(held, found, strict=True):
            if isinstance(response, Unread):
                unread.append(task)
            elif response is None:
                empty.append(task)
            elif self._contract.names_answers and response != task.response_hash:
                gone.append(task)
            else:
                there.append(task)
        gone += await self._absence.proven(empty, Absent.RESPONSE, at)
        await self._ledger.write(outcomes.final, there, final)
        await self._ledger.write(outcomes.taken_back, gone, at)
        await self._ledger.write(outcomes.look_again, unread, at.number + 1)
        return len(held)
