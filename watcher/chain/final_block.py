"""The final block, as the watch follows it: asked once per head, recorded never beyond the cursor, never backwards.

The commit that moves the cursor to the head records it, where the look at that head has shown it; else one behind that.
"""

from watcher.chain.rpc.finality import Final
from watcher.chain.source import Source
from watcher.errors import RetryElsewhere
from watcher.ledger import finality
from watcher.ledger.cursor import Cursor
from watcher.task import Header

_NO_BLOCK = -1


class _OtherFork(RetryElsewhere):
    """The final block is on a fork that was not read; the next step of the watch goes back to its start."""


class FinalBlock:
    """The final block of the newest head."""

    def __init__(self, source: Source, finality: str | int, confirmations: int) -> None:
        """`finality` and `confirmations` are those of `WatchPlan`."""
        self._source = source
        self._nodes = source.nodes
        self._finality = finality
        self._confirmations = confirmations
        self._done_at = _NO_BLOCK
        self._beside_at = _NO_BLOCK  # it goes with the commit that moves the cursor to this head
        self._behind: int | None = None  # blocks from the head to the final block, at the last head
        self._is_steady = False  # the same as at the head before

    @property
    def steady_behind(self) -> int | None:
        """Return the blocks from a head to its final block, None unless they were the same for the last two heads."""
        return self._behind if self._is_steady else None

    def forget(self) -> None:
        """Ask again at the same head: the chain has changed."""
        self._done_at = _NO_BLOCK

    async def beside(self, cursor: Cursor, head: Header) -> Final | None:
        """Return the final block to record with the commit that moves the cursor to `head`.

        None: there is no new one, or the look has not brought it along, and no task is to wait for the question.
        `record` follows the commit.
        """
        self._beside_at = _NO_BLOCK
        # Where finality is a depth, a look does not ask for it.
        if isinstance(self._finality, int) or self.steady_behind is None or head.number == self._done_at:
            return None
        try:
            final = await self._new(cursor, head)
        except RetryElsewhere:
            return None
        self._beside_at = head.number
        return final

    async def record(self, cursor: Cursor, head: Header) -> None:
        """Record the final block, unless the commit before has."""
        if head.number == self._done_at:
            return
        if head.number != self._beside_at:
            try:
                final = await self._new(cursor, head)
            except _OtherFork:
                return
            if final is not None:
                ledger = self._source.ledger
                await ledger.write(finality.finalise, ledger.source_id, final.block, firm=final.firm)
        self._done_at = head.number

    async def _new(self, cursor: Cursor, head: Header) -> Final | None:
        """Return the final block, not beyond the cursor; None where the ledger has it.

        Raises:
            RetryElsewhere: no endpoint answers.
            _OtherFork: the cursor is not on the chain any more.
        """
        above = min(cursor.final_block, cursor.firm_block)
        final = await self._nodes.final(self._finality, head, self._confirmations, above)
        behind = None if final is None else head.number - final.block.number
        self._is_steady, self._behind = behind == self._behind, behind
        if final is None:
            return None
        highest = final.block.number if cursor.hash is None else min(final.block.number, cursor.block)
        if highest <= (cursor.firm_block if final.firm else cursor.final_block):
            return None
        # Asked after the final block: a chain that still holds the cursor's block then has no other final one.
        here = await self._nodes.header(cursor.block, head)
        if cursor.hash is None:
            return final
        if here is None or here.hash != cursor.hash:
            raise _OtherFork(f"block {cursor.block} is not on the chain whose final block was read")
        return Final(min(final.block, here, key=lambda header: header.number), final.firm)
