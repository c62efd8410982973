"""The periodic work for the audit chain: older rows are bound bit by bit, and the roots of past days are published."""

from loguru import logger

from watcher.clock import Clock
from watcher.ledger.audit.past import bind_past
from watcher.ledger.audit.roots import day_of, note_published, unpublished
from watcher.ledger.store import Ledger
from watcher.text import to_hex

_ROWS = 1000
# So many commits in one run: other verbs come in between, and a run ends soon.
_COMMITS = 20


class Auditing:
    """The audit chain of one ledger, kept."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._is_bound = False
        self._published_on = ""

    async def run(self) -> None:
        """Bind the next rows of the past, and publish the roots of past days. Raises TryLater without the ledger."""
        for _ in range(_COMMITS):
            if self._is_bound:
                break
            self._is_bound = await self._ledger.write(bind_past, self._ledger.source_id, _ROWS) == 0
        today = day_of(self._clock.now_ms())
        if today != self._published_on:
            await self._publish()
            self._published_on = today

    async def _publish(self) -> None:
        """Write the roots of past days to the log, which others keep, and note them in the ledger."""
        source_id = self._ledger.source_id
        for root in await self._ledger.read(unpublished, source_id, self._clock.now_ms()):
            logger.info(
                "audit.root: the root of a day of the record; keep it where nobody can edit it",
                day=root.day,
                root=to_hex(root.root),
                first_seq=root.first_seq,
                last_seq=root.last_seq,
                head_hash=to_hex(root.head_hash),
            )
            await self._ledger.write(note_published, source_id, root)
