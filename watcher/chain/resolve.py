"""Verdicts from the chain, the only judge. Used before every POST, and to confirm.

Invariant: a reading counts only when it comes from a head at least as high as the highest one known; a response counts
as ours only when its event carries our bytes and the contract, as far as it can, stores the hash of that event.
"""

from collections.abc import Sequence

from watcher.chain.rpc.replies import Unread
from watcher.chain.source import Source
from watcher.errors import RetryElsewhere
from watcher.ledger.answer_events import AnsweredTask, answer_events
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
    Task,
    Verdict,
)

# Without a view the logs decide. So many blocks behind the head the cursor still counts as caught up.
_UNREAD_BLOCKS = 2


class Resolver:
    """Verdicts on tasks, all at one block."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._contract = source.contract
        self._ledger = source.ledger

    async def resolve(self, tasks: Sequence[OpenTask]) -> Sequence[Verdict]:
        """Return one verdict per task, in order, at the present head.

        Raises:
            RetryElsewhere: there is no evidence: no endpoint answers, the head is below the highest one known, or the
                logs that would decide are not read yet.
        """
        cursor, at = await self._source.at_head()
        if not self._contract.proves_answers and cursor.block + _UNREAD_BLOCKS < at.number:
            raise RetryElsewhere(
                f"the logs are read up to block {cursor.block} of {at.number}: they alone show the answers"
            )
        return await self.at(tasks, at)

    async def past_deadline(self, tasks: Sequence[OpenTask]) -> Sequence[Verdict]:
        """Return one verdict per task whose deadline a final block has passed, in order, at the present head.

        A response that was not on the chain by the deadline cannot appear later, so the head shows the same as the
        final block, whose state full nodes have dropped where finality is 128 blocks behind. Raises as `resolve`.
        """
        _, at = await self._source.at_head()
        return await self.at(tasks, at)

    async def response_hashes(self, tasks: Sequence[OpenTask]) -> tuple[Header, list[bytes | Unread | None]]:
        """Return the present head, and the contract's word for the response to each task. Raises as `resolve`."""
        _, at = await self._source.at_head()
        readings = await self._contract.hashes_and_responses([task.task.task_index for task in tasks], at)
        return at, [reading if isinstance(reading, Unread) else reading[1] for reading in readings]

    async def at(self, tasks: Sequence[OpenTask], at: Header) -> Sequence[Verdict]:
        """Return one verdict per task, in order, at block `at`. Raises RetryElsewhere."""
        readings = await self._contract.hashes_and_responses([task.task.task_index for task in tasks], at)
        events = await self._events(tasks, readings, at)
        return [
            NoEvidence(reading.reason) if isinstance(reading, Unread) else self._verdict(task, *reading, event, at)
            for task, reading, event in zip(tasks, readings, events, strict=True)
        ]

    async def _events(
        self, tasks: Sequence[OpenTask], readings: Sequence[tuple[bytes | None, bytes | None] | Unread], at: Header
    ) -> Sequence[Responded | None]:
        """Return the event that answers each task, as far as the ledger has it and the verdict needs it."""
        contract = self._contract
        answered = {
            place: AnsweredTask(task.task.task_index, task.task.seen_at, reading[1] if contract.names_answers else None)
            for place, (task, reading) in enumerate(zip(tasks, readings, strict=True))
            if not isinstance(reading, Unread) and not (contract.proves_answers and reading[1] is None)
        }
        if not answered:
            return [None] * len(tasks)
        upto_block = None if contract.proves_answers else at.number
        read = await self._ledger.read(answer_events, self._ledger.source_id, list(answered.values()), upto_block)
        events = dict(zip(answered, read, strict=True))
        return [events.get(place) for place in range(len(tasks))]

    def _verdict(
        self, task: OpenTask, task_hash: bytes | None, response_hash: bytes | None, event: Responded | None, at: Header
    ) -> Verdict:
        if self._contract.proves_tasks and not self._contract.is_task(task_hash, task.task.task_hash):
            return Orphaned(at, empty=task_hash is None)
        if self._contract.proves_answers and response_hash is None:
            return _unanswered(task.task, at)
        if event is None and not self._contract.proves_answers:
            return _unanswered(task.task, at)
        if event is None:
            return NoEvidence("the task is answered, and the event that shows by whom has not been read yet", True)
        return RespondedByUs(event) if event.message == task.response else RespondedOtherwise(event)


def _unanswered(task: Task, at: Header) -> NotYet | Expired:
    # The next transaction is mined in the next block at the earliest.
    late = task.deadline_block is not None and at.closed_block >= task.deadline_block
    late |= task.deadline_s is not None and at.timestamp_s >= task.deadline_s
    return Expired(at) if late else NotYet(at)
