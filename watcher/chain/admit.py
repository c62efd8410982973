"""Stage: seen -> ready. A task is worth working on once it is deep enough and the contract says that it is true."""

from loguru import logger

from watcher.chain.absence import AbsenceRule
from watcher.chain.contract import TaskManager
from watcher.chain.expiry import Expiry
from watcher.chain.rpc.evidence import require_height
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.replies import Unread
from watcher.clock import Clock
from watcher.ledger import outcomes, queries
from watcher.ledger.store import Ledger
from watcher.task import Header, OpenTask

_BATCH = 200


class Admit:
    """Proves each task against `allTaskHashes`, `confirmations` blocks after it was created.

    One call kills forged logs, a wrong ABI, lagging replicas and orphaned tasks alike. Where the contract has no such
    view, the depth of the log is all there is to go by.
    """

    name = "admit"

    def __init__(
        self,
        nodes: NodePool,
        contract: TaskManager,
        ledger: Ledger,
        clock: Clock,
        confirmations: int,
        idle_s: float,
        quorum: int = 1,
    ) -> None:
        """`quorum`: the number of endpoints that give each reading of the contract alike."""
        self._nodes = nodes
        self._contract = contract
        self._ledger = ledger
        self._clock = clock
        self._confirmations = confirmations
        self._idle_s = idle_s
        self._unread: set[int] = set()
        self._expiry = Expiry(nodes, contract, ledger, AbsenceRule(ledger, clock, quorum))

    async def step(self) -> float:
        """Admit one batch. Returns the seconds until the next look."""
        found = await self._ledger.read(
            outcomes.to_admit, self._ledger.source_id, self._confirmations, self._clock.now_ms(), _BATCH
        )
        if not found:
            return self._idle_s
        cursor = await self._ledger.read(queries.cursor, self._ledger.source_id)
        at = await self._nodes.head()
        require_height(at, cursor.head_block)
        if self._contract.proves_tasks:
            await self._prove(found, at, cursor.final_block)
        else:
            await self._ledger.write(outcomes.admitted, found, at, proved=False)
        return 0 if len(found) == _BATCH else self._idle_s

    async def _prove(self, found: list[OpenTask], at: Header, final_block: int) -> None:
        held = await self._contract.hashes_and_responses([one.task.task_index for one in found], at)
        true: list[OpenTask] = []
        doubtful: list[tuple[OpenTask, bytes | None]] = []
        unread: list[tuple[OpenTask, Unread]] = []
        for one, word in zip(found, held, strict=True):
            if isinstance(word, Unread):
                unread.append((one, word))
            elif self._contract.is_task(word[0], one.task.task_hash):
                true.append(one)
            else:
                doubtful.append((one, word[0]))
        await self._ledger.write(outcomes.admitted, true, at)
        if doubtful:
            await self._doubt(doubtful, at, final_block)
        if unread:
            await self._postpone(unread, at)

    async def _postpone(self, unread: list[tuple[OpenTask, Unread]], at: Header) -> None:
        """Ask for these again at the next block: what could not be read proves nothing."""
        for one, word in unread:
            if one.row_id not in self._unread:
                logger.bind(task=one.task.task_index).warning("it waits: {}", word.reason)
        # Only those of the last step: bounded, and a task that stays unreadable is logged once.
        self._unread = {one.row_id for one, _ in unread}
        await self._ledger.write(outcomes.postponed, [(one, word.reason) for one, word in unread], at.number + 1)

    async def _doubt(self, doubtful: list[tuple[OpenTask, bytes | None]], at: Header, final_block: int) -> None:
        """A reorg is about to be noticed, or the log is not what the contract emitted. Finality decides which."""
        final = [(task, held) for task, held in doubtful if task.task.seen_at.block_number <= final_block]
        await self._expiry.not_held([task for task, held in final if held is not None], at, empty=False)
        await self._expiry.not_held([task for task, held in final if held is None], at, empty=True)
        unsure = [task for task, _ in doubtful if task.task.seen_at.block_number > final_block]
        await self._ledger.write(
            outcomes.look_again, unsure, at.number + 1, "the contract does not hold this task (yet, or any more)"
        )
