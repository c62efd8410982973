"""The source of tasks: one contract on one chain, the ledger that records its tasks, and the clock of both."""

from dataclasses import dataclass, field

from watcher.chain.contract import TaskManager
from watcher.chain.numbering import OWN_BLOCKS, Numbering
from watcher.chain.rpc.evidence import require_height
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.pace import Pace
from watcher.clock import Clock
from watcher.ledger.cursor import Cursor
from watcher.ledger.store import Ledger
from watcher.task import Header
from watcher.trace import Trace


@dataclass(frozen=True, slots=True)
class Source:
    """The parts that the stages work with.

    `window_blocks` is the response window at the start, None where the contract has none. `numbering` tells which
    blocks the contract counts.
    """

    nodes: NodePool
    contract: TaskManager
    ledger: Ledger
    clock: Clock
    window_blocks: int | None = None
    numbering: Numbering = OWN_BLOCKS
    pace: Pace = field(default_factory=Pace)
    trace: Trace = field(default_factory=Trace)

    async def cursor(self) -> Cursor:
        """Return the ledger's marks on the chain: cursor, head and final block."""
        return await self.ledger.cursor()

    async def at_head(self) -> tuple[Cursor, Header]:
        """Return the cursor, and the present head, whose state is evidence.

        The cursor is read first: the ledger's head is then at most as new as the head it is compared with.

        Raises:
            RetryElsewhere: no endpoint answers.
            StaleNode: the head is below the highest one known.
        """
        cursor = await self.cursor()
        at = await self.nodes.head()
        require_height(at, cursor.head_block)
        return cursor, at
