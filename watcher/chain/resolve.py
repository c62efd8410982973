"""What the chain says about tasks: the only judge there is. Used before every POST, and to confirm.

Invariant: a reading counts only when it comes from a head at least as high as the highest one known; a response counts
as ours only when its event carries our bytes and the contract, as far as it can, stores the hash of that very event.
"""

from collections.abc import Sequence

from watcher.chain.contract import TaskManager
from watcher.chain.rpc.evidence import require_height
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.replies import Unread
from watcher.errors import RetryElsewhere
from watcher.ledger import outcomes, queries
from watcher.ledger.source import Cursor
from watcher.ledger.store import Ledger
from watcher.task import (
    Expired,
    Header,
    NoEvidence,
    NotYet,
    OpenTask,
    Orphaned,
    RespondedByUs,
    RespondedOtherwise,
    Task,
    Verdict,
)

# Without a view the logs decide; the watch may be this far behind the head and still count as caught up.
_UNREAD_BLOCKS = 2


class Resolver:
    """Verdicts on tasks, all at one block."""

    def __init__(self, nodes: NodePool, contract: TaskManager, ledger: Ledger) -> None:
        self._nodes = nodes
        self._contract = contract
        self._ledger = ledger

    async def resolve(self, held: Sequence[OpenTask]) -> Sequence[Verdict]:
        """One verdict per task, in order, at the present head. Raises RetryElsewhere when there is no evidence."""
        cursor, at = await self._at_head()
        if not self._contract.proves_answers and cursor.block + _UNREAD_BLOCKS < at.number:
            raise RetryElsewhere(
                f"the logs are read up to block {cursor.block} of {at.number}: they are all that tells"
            )
        return await self.at(held, at)

    async def past_deadline(self, held: Sequence[OpenTask]) -> Sequence[Verdict]:
        """One verdict per task whose deadline a final block has passed, in order, from the state of the present head.

        A response that was not on the chain by then cannot be there later, so that the head says the same as the final
        block, whose state full nodes have dropped where finality is 128 blocks behind. Raises as `resolve` does.
        """
        _, at = await self._at_head()
        return await self.at(held, at)

    async def response_hashes(self, held: Sequence[OpenTask]) -> tuple[Header, list[bytes | Unread | None]]:
        """What the contract holds of the response to each task, and the head at which it does. Raises as `resolve`."""
        _, at = await self._at_head()
        found = await self._contract.hashes_and_responses([one.task.task_index for one in held], at)
        return at, [word if isinstance(word, Unread) else word[1] for word in found]

    async def _at_head(self) -> tuple[Cursor, Header]:
        # The ledger first: what it knows is then at most as new as the head it is compared with.
        cursor = await self._ledger.read(queries.cursor, self._ledger.source_id)
        at = await self._nodes.head()
        require_height(at, cursor.head_block)
        return cursor, at

    async def at(self, held: Sequence[OpenTask], at: Header) -> Sequence[Verdict]:
        """One verdict per task, in order, at a given block."""
        found = await self._contract.hashes_and_responses([one.task.task_index for one in held], at)
        return [
            NoEvidence(word.reason) if isinstance(word, Unread) else await self._verdict(one, *word, at)
            for one, word in zip(held, found, strict=True)
        ]

    async def _verdict(
        self, held: OpenTask, task_hash: bytes | None, response_hash: bytes | None, at: Header
    ) -> Verdict:
        if self._contract.proves_tasks and not self._contract.is_task(task_hash, held.task.task_hash):
            return Orphaned(at, empty=task_hash is None)
        if self._contract.proves_answers and response_hash is None:
            return _unanswered(held.task, at)
        event = await self._ledger.read(
            outcomes.response_of,
            self._ledger.source_id,
            held.task.task_index,
            response_hash if self._contract.names_answers else None,
            None if self._contract.proves_answers else at.number,
            held.task.seen_at,
        )
        if event is None and not self._contract.proves_answers:
            return _unanswered(held.task, at)
        if event is None:
            return NoEvidence("it is answered, and the event that tells by whom has not been read yet", True)
        return RespondedByUs(event) if event.message == held.response else RespondedOtherwise(event)


def _unanswered(task: Task, at: Header) -> NotYet | Expired:
    # The next transaction is mined in the next block at the earliest.
    late = task.deadline_block is not None and at.closed_block >= task.deadline_block
    late |= task.deadline_s is not None and at.timestamp_s >= task.deadline_s
    return Expired(at) if late else NotYet(at)
