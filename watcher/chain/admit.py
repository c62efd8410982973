"""Stage: seen -> ready. A task is ready once it is deep enough and the contract holds its hash."""

from collections.abc import Sequence

from loguru import logger

from watcher.chain.absence import AbsenceRule
from watcher.chain.expiry import Expiry
from watcher.chain.rpc.replies import Unread
from watcher.chain.source import Source
from watcher.ledger import outcomes
from watcher.task import Header, OpenTask

_BATCH = 200


class Admit:
    """The proof of each task against `allTaskHashes`, `confirmations` blocks after the task was created.

    This one call finds forged logs, a wrong ABI, lagging replicas and orphaned tasks. Where the contract has no such
    view, the depth of the log is the only proof.
    """

    name = "admit"

    def __init__(self, source: Source, confirmations: int, idle_s: float, quorum: int = 1) -> None:
        """`quorum`: the number of endpoints that give each reading of the contract alike."""
        self._source = source
        self._contract = source.contract
        self._ledger = source.ledger
        self._confirmations = confirmations
        self._idle_s = idle_s
        self._unread: set[int] = set()
        self._expiry = Expiry(source, AbsenceRule(source.ledger, source.clock, quorum))

    async def step(self) -> float:
        """Admit one batch. Return the seconds until the next step.

        Raises:
            RetryElsewhere: no endpoint answers, or the head is below the highest one known.
        """
        tasks = await self._ledger.read(
            outcomes.to_admit, self._ledger.source_id, self._confirmations, self._source.clock.now_ms(), _BATCH
        )
        if not tasks:
            return self._idle_s
        cursor, at = await self._source.at_head()
        if self._contract.proves_tasks:
            await self._prove(tasks, at, cursor.final_block)
        else:
            await self._admit(tasks, at, proved=False)
        return 0 if len(tasks) == _BATCH else self._idle_s

    async def _prove(self, tasks: Sequence[OpenTask], at: Header, final_block: int) -> None:
        # `submit` finds the words for the answers in the cache, unless so many tasks come first that they are too old.
        readings = await self._contract.hashes_and_responses(
            [task.task.task_index for task in tasks], at, answers_too=len(tasks) < _BATCH
        )
        proved: list[OpenTask] = []
        doubtful: list[tuple[OpenTask, bytes | None]] = []
        unread: list[tuple[OpenTask, Unread]] = []
        for task, reading in zip(tasks, readings, strict=True):
            if isinstance(reading, Unread):
                unread.append((task, reading))
            elif self._contract.is_task(reading[0], task.task.task_hash):
                proved.append(task)
            else:
                doubtful.append((task, reading[0]))
        await self._admit(proved, at)
        if doubtful:
            await self._doubt(doubtful, at, final_block)
        if unread:
            await self._postpone(unread, at)

    async def _admit(self, tasks: Sequence[OpenTask], at: Header, *, proved: bool = True) -> None:
        await self._ledger.write(outcomes.admitted, tasks, at, proved=proved)
        self._source.trace.step("admitted", [task.task.task_index for task in tasks])

    async def _postpone(self, unread: Sequence[tuple[OpenTask, Unread]], at: Header) -> None:
        """Read these again at the next block: a reading that fails proves nothing."""
        for task, reading in unread:
            if task.row_id not in self._unread:
                logger.warning(
                    "task.unread: the contract's word for the task cannot be read; the task waits",
                    task=task.task.task_index,
                    reason=reading.reason,
                )
        # Only those of the last step: bounded, and a task that stays unreadable is logged once.
        self._unread = {task.row_id for task, _ in unread}
        postponed = [(task, reading.reason) for task, reading in unread]
        await self._ledger.write(outcomes.postponed, postponed, at.number + 1)

    async def _doubt(self, doubtful: Sequence[tuple[OpenTask, bytes | None]], at: Header, final_block: int) -> None:
        """Set aside the tasks in final blocks, and wait with the others: a reorg may be under way."""
        final = [(task, word) for task, word in doubtful if task.task.seen_at.block_number <= final_block]
        await self._expiry.not_held([task for task, word in final if word is not None], at, empty=False)
        await self._expiry.not_held([task for task, word in final if word is None], at, empty=True)
        recent = [task for task, _ in doubtful if task.task.seen_at.block_number > final_block]
        await self._ledger.write(
            outcomes.look_again, recent, at.number + 1, "the contract does not hold this task (yet, or any more)"
        )
