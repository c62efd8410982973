"""The periodic work for the audit chain: older rows are bound bit by bit, and the roots of past days are published."""

from watcher.backoff import doubled_s
from watcher.clock import Clock
from watcher.daemon.publication import Publication
from watcher.ledger.audit.past import bind_past
from watcher.ledger.audit.roots import Root, day_of, note_published, published, unpublished
from watcher.ledger.store import Ledger

_ROWS = 1000
# So many commits in one run: other verbs come in between, and a run ends soon.
_COMMITS = 20
_PAUSE_FIRST_S = 15.0
_PAUSE_MAX_S = 600.0


class Auditing:
    """The audit chain of one ledger, kept."""

    def __init__(self, ledger: Ledger, clock: Clock, publication: Publication | None = None) -> None:
        """Keep the chain of `ledger`. Without a publication the log alone gets the roots."""
        self._ledger = ledger
        self._clock = clock
        self._publication = publication or Publication()
        self._is_bound = False
        self._published_on = ""
        self._failures = 0
        self._next_try_s = 0.0

    async def run(self) -> None:
        """Bind the next rows of the past, and publish the roots of past days. Raises TryLater without the ledger."""
        for _ in range(_COMMITS):
            if self._is_bound:
                break
            self._is_bound = await self._ledger.write(bind_past, self._ledger.source_id, _ROWS) == 0
        today = day_of(self._clock.now_ms())
        if today == self._published_on or (self._failures and self._clock.monotonic_s() < self._next_try_s):
            return
        if await self._publish():
            self._published_on, self._failures = today, 0
        else:
            self._failures += 1
            self._next_try_s = self._clock.monotonic_s() + doubled_s(self._failures, _PAUSE_FIRST_S, _PAUSE_MAX_S)

    async def _publish(self) -> bool:
        """Give the roots of past days to every receiver, then note them in the ledger. Return False if one failed."""
        source_id = self._ledger.source_id
        rows = await self._ledger.read(published, source_id)
        past = [Root(row.day, row.first_seq, row.last_seq, row.root, row.head_hash) for row in rows]
        fresh = await self._ledger.read(unpublished, source_id, self._clock.now_ms())
        if rows:
            self._publication.noted(rows[-1].published_at_ms)
        if not await self._publication.give(past, fresh):
            return False
        for root in fresh:
            await self._ledger.write(note_published, source_id, root)
            self._publication.noted(self._clock.now_ms())
        return True
