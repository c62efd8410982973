"""Housekeeping: notice when the contract behind the address is not the one it was.

Proxies are upgraded and aggregators replaced while we run. Invariants: nothing is learnt from a head below the highest
one known; open tasks get later deadlines at once, and earlier ones only when the block that showed them is final,
because what is expired for good must not hang on a block that may go away.
"""

from collections.abc import Callable

from eth_utils.crypto import keccak
from loguru import logger

from watcher.chain.contract import TaskManager
from watcher.chain.convention.view import NoSuchView
from watcher.chain.dry_run import DryRun
from watcher.chain.rpc.evidence import require_height
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.watch import Watch
from watcher.ledger import claims, queries
from watcher.ledger import source as ledger_source
from watcher.ledger.source import Cursor
from watcher.ledger.store import Ledger
from watcher.state import State
from watcher.task import Header
from watcher.text import to_hex

IMPLEMENTATION = "implementation"
CODE = "code hash"
AGGREGATOR = "aggregator"
WINDOW = "response window"


class Drift:
    """One reading of the contract per `run`, compared with the last."""

    def __init__(
        self,
        nodes: NodePool,
        contract: TaskManager,
        watch: Watch,
        dry_run: DryRun | None,
        ledger: Ledger,
        on_window: Callable[[int], None] = lambda _window_blocks: None,
    ) -> None:
        """`on_window` is called with the response window in blocks whenever it changes."""
        self._nodes = nodes
        self._contract = contract
        self._watch = watch
        self._dry_run = dry_run
        self._ledger = ledger
        self._retimed: int | None = None  # the window that all deadlines in the ledger are known to follow
        self._on_window = on_window

    async def run(self) -> None:
        """Read, compare, tell, and take over what has changed. Raises RetryElsewhere when no node can say."""
        source = self._ledger.source_id
        cursor = await self._ledger.read(queries.cursor, source)
        at = await self._nodes.head()
        require_height(at, cursor.head_block)
        aggregator = await self._contract.aggregator(at)
        window = await self._window(at)
        found = await self._code(at) | {AGGREGATOR: _hex(aggregator)}
        if self._contract.convention.response_window is not None:
            found[WINDOW] = None if window is None else str(window)
        changes = await self._ledger.write(ledger_source.learn, source, found, at.number)
        for change in changes:
            logger.warning("the contract has changed, seen at block {}: {}", at.number, change)
        if self._dry_run is not None:
            self._dry_run.follow(aggregator, anew=bool(changes))
        if window is not None:
            await self._follow(window, cursor)
        if changes:  # what was held back by a dry run may have a way to go now
            await self._ledger.write(claims.make_due, source, [State.COMPUTED], "")

    async def _window(self, at: Header) -> int | None:
        """The window as the contract says it, None where it says none."""
        if self._contract.convention.response_window is None:
            return None
        try:
            return await self._contract.response_window(at)
        except NoSuchView:
            return None  # it had one at the start: an upgrade to something else

    async def _code(self, at: Header) -> dict[str, str | None]:
        word, code = await self._contract.implementation_and_code(at)
        found: dict[str, str | None] = {}
        if word is not None:
            found[IMPLEMENTATION] = _hex(word[-20:]) if any(word) else None
        if code is not None:
            found[CODE] = _hex(keccak(code)) if code else None
        return found

    async def _follow(self, window: int, cursor: Cursor) -> None:
        """Tasks read from now on get this window; those in the ledger too, as soon as that is safe."""
        if window != self._watch.window_blocks:
            self._watch.window_blocks = window
            self._on_window(window)
        if window == self._retimed:
            return
        known = await self._ledger.read(ledger_source.known, self._ledger.source_id)
        for_good = cursor.final_block >= known[WINDOW].block_number
        moved = await self._ledger.write(ledger_source.retime, self._ledger.source_id, window, shorten=for_good)
        if moved:
            logger.warning("{} open tasks have another deadline: the window is {} blocks", moved, window)
        self._retimed = window if for_good else None


def _hex(data: bytes | None) -> str | None:
    return None if data is None else to_hex(data)
