"""A periodic job: ask the nodes for what no log has shown, the times of blocks and the senders of final responses.

Both only serve people: a question that fails stops nothing, and is put again in a later sweep.
"""

from watcher.chain.source import Source
from watcher.ledger import backfill
from watcher.task import Header

_BLOCKS_PER_RUN = 50
_SENDERS_PER_RUN = 20  # a transaction may be 128 KiB long
# What no node shows is asked about again after so long.
_SWEEP_EVERY_S = 6 * 3600.0


class Backfill:
    """One bounded step of two sweeps over the ledger, each from the lowest block to the highest."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._ledger = source.ledger
        self._timed_to = -1
        self._sent_to = -1
        self._began_s = source.clock.monotonic_s()

    async def run(self) -> None:
        """Fill in the next blocks and senders. Raises TryLater if the ledger cannot be read or written."""
        now_s = self._source.clock.monotonic_s()
        if now_s - self._began_s > _SWEEP_EVERY_S:
            self._timed_to, self._sent_to, self._began_s = -1, -1, now_s
        await self._fill_times()
        await self._fill_senders()

    async def _fill_times(self) -> None:
        source_id = self._ledger.source_id
        blocks = await self._ledger.read(backfill.untimed, source_id, self._timed_to, _BLOCKS_PER_RUN)
        if not blocks:
            return
        replied = await self._source.nodes.side.headers(sorted({number for number, _ in blocks}))
        if replied is None:
            return
        known = [header for number, hash_ in blocks if (header := _timed(replied.get(number), hash_)) is not None]
        if known:
            await self._ledger.write(backfill.record_times, source_id, known)
        self._timed_to = blocks[-1][0]

    async def _fill_senders(self) -> None:
        unsent = await self._ledger.read(backfill.unsent, self._ledger.source_id, self._sent_to, _SENDERS_PER_RUN)
        if not unsent:
            return
        replied = await self._source.nodes.side.senders(sorted({response.tx_hash for response in unsent}))
        if replied is None:
            return
        known = {
            response: sender.address
            for response in unsent
            if (sender := replied.get(response.tx_hash)) is not None and sender.block_number == response.block_number
        }
        if known:
            await self._ledger.write(backfill.record_senders, known)
        # Several responses of one block may be on two pages.
        self._sent_to = unsent[-1].block_number - (len(unsent) == _SENDERS_PER_RUN and bool(known))


def _timed(header: Header | None, hash_: bytes) -> Header | None:
    """Return the header if it is of this very block and shows its time."""
    return header if header is not None and header.hash == hash_ and header.timestamp_s else None
