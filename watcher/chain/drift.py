"""A periodic job: notice changes of the contract behind the address.

Proxies are upgraded and aggregators replaced while the daemon runs. Invariants: no reading counts from a head below the
highest one known; open tasks get later deadlines at once, and earlier deadlines only when the block that showed them is
final, because an expiry must not depend on a block that may go away.
"""

from collections.abc import Callable

from eth_hash.auto import keccak
from loguru import logger

from watcher.chain.convention.view import NoSuchView
from watcher.chain.dry_run import DryRun
from watcher.chain.page import LogReader
from watcher.chain.source import Source
from watcher.ledger import claims
from watcher.ledger import source as ledger_source
from watcher.ledger.cursor import Cursor
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
        source: Source,
        reader: LogReader,
        dry_run: DryRun | None,
        on_window: Callable[[int], None] = lambda _window_blocks: None,
    ) -> None:
        """`on_window` is called with the response window in blocks whenever it changes."""
        self._source = source
        self._contract = source.contract
        self._ledger = source.ledger
        self._reader = reader
        self._dry_run = dry_run
        self._retimed: int | None = None  # the window that all deadlines in the ledger follow
        self._on_window = on_window

    async def run(self) -> None:
        """Read the contract, log its changes, and apply them.

        Raises:
            RetryElsewhere: no endpoint answers, or the head is below the highest one known.
        """
        cursor, at = await self._source.at_head()
        aggregator = await self._contract.aggregator(at)
        window = await self._window(at)
        readings = await self._code(at) | {AGGREGATOR: _hex(aggregator)}
        if self._contract.convention.response_window is not None:
            readings[WINDOW] = None if window is None else str(window)
        changes = await self._ledger.write(ledger_source.record_contract, self._ledger.source_id, readings, at.number)
        for change in changes:
            logger.warning("chain.contract_changed: the contract has changed", block=at.number, change=change)
        if self._dry_run is not None:
            self._dry_run.follow(aggregator, anew=bool(changes))
        if window is not None:
            await self._follow(window, cursor)
        if changes:  # an answer that a dry run held back may pass now
            await self._ledger.write(claims.make_due, self._ledger.source_id, [State.COMPUTED], "")

    async def _window(self, at: Header) -> int | None:
        """Return the window as the contract shows it, in blocks; None where it has none."""
        if self._contract.convention.response_window is None:
            return None
        try:
            return await self._contract.response_window(at)
        except NoSuchView:
            return None  # an upgrade removed the view that was there at the start

    async def _code(self, at: Header) -> dict[str, str | None]:
        """Return implementation and code hash of each contract of the convention, by the name of the fact."""
        readings: dict[str, str | None] = {}
        for name, address in self._contract.addresses.items():
            at_address = f" at {name}.address" if name else ""
            word, code = await self._contract.implementation_and_code(address, at)
            if word is not None:
                readings[IMPLEMENTATION + at_address] = _hex(word[-20:]) if any(word) else None
            if code is not None:
                readings[CODE + at_address] = _hex(keccak(code)) if code else None
        return readings

    async def _follow(self, window: int, cursor: Cursor) -> None:
        """Give new tasks this window, and the tasks in the ledger as soon as that is safe."""
        if window != self._reader.window_blocks:
            self._reader.window_blocks = window
            self._on_window(window)
        if window == self._retimed:
            return
        known = await self._ledger.read(ledger_source.known_facts, self._ledger.source_id)
        is_final = cursor.final_block >= known[WINDOW].block_number
        tasks = await self._ledger.write(
            ledger_source.reset_deadlines, self._ledger.source_id, window, shorten=is_final
        )
        if tasks:
            logger.warning(
                "chain.deadlines_changed: open tasks have another deadline, by the contract's new window",
                tasks=tasks,
                window_blocks=window,
            )
        self._retimed = window if is_final else None


def _hex(data: bytes | None) -> str | None:
    return None if data is None else to_hex(data)
