"""The periodic work for the audit chain: rows of a ledger that is older than its chain are bound bit by bit."""

from watcher.ledger.audit.past import bind_past
from watcher.ledger.store import Ledger

_ROWS = 1000
# So many commits in one run: other verbs come in between, and a run ends soon.
_COMMITS = 20


class Auditing:
    """The audit chain of one ledger, kept."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._is_bound = False

    async def run(self) -> None:
        """Bind the next rows of the past. Raises TryLater if the ledger cannot be written."""
        for _ in range(_COMMITS):
            if self._is_bound:
                return
            bound = await self._ledger.write(bind_past, self._ledger.source_id, _ROWS)
            self._is_bound = bound == 0
