"""The measure of the ledger: its open work, and the transitions that came since the measure before.

Invariant: what it costs follows the open tasks and the new journal lines, not the size of the ledger.
"""

from collections.abc import Callable, Sequence

from watcher.clock import Clock
from watcher.errors import TryLater
from watcher.health.metrics import Metrics
from watcher.health.readings import Limits
from watcher.ledger import journal_range, stats
from watcher.ledger.journal_range import Transitions
from watcher.ledger.stats import Work
from watcher.ledger.store import Ledger

_LINES = 5000  # of the journal, read at once
_COUNT_EVERY_S = 6 * 3600


class LedgerMeasure:
    """The last measure.

    Attributes:
        work: the open work, None before the first measure.
        error: why the ledger could not be read the last time, None if it could.
        last_move: the newest known journal line.
        moved_s: when it became known, on the monotonic clock.
    """

    def __init__(self, metrics: Metrics, clock: Clock, listeners: Sequence[Callable[[Transitions], None]] = ()) -> None:
        """`listeners` get the transitions of tasks, in order."""
        self._metrics = metrics
        self._clock = clock
        self._listeners = (metrics.tasks.moved, *listeners)
        self._count_at_s = 0.0
        self.work: Work | None = None
        self.error: str | None = None
        self.last_move = 0
        self.moved_s = clock.monotonic_s()

    async def opened(self, ledger: Ledger) -> None:
        """Take the transitions before this start as known: they are counted, and not reported again.

        Raises:
            TryLater: the ledger cannot be read.
        """
        self.last_move = await ledger.read(journal_range.last_move)

    async def renew(self, ledger: Ledger, limits: Limits, chain_time_s: float) -> None:
        """Measure the ledger, and hand the new transitions to the listeners.

        Args:
            ledger: the ledger.
            limits: when a task is in danger.
            chain_time_s: the time that contracts use, in seconds since 1970.
        """
        try:
            self.work = await ledger.read(
                stats.work,
                ledger.source_id,
                self._clock.now_ms(),
                limits.danger_blocks,
                limits.danger_s,
                chain_time_s,
                ledger.held_to_block,
                self.work,
            )
            await self._count(ledger)
            await self._follow_moves(ledger, self.work.last_move)
            self.error = None
        except TryLater as condition:
            self.error = str(condition)

    async def _follow_moves(self, ledger: Ledger, newest: int) -> None:
        while self.last_move < newest:
            upto = min(newest, self.last_move + _LINES)
            transitions = await ledger.read(journal_range.transitions_between, ledger.source_id, self.last_move, upto)
            self.last_move, self.moved_s = upto, self._clock.monotonic_s()
            for listener in self._listeners:
                listener(transitions)

    async def _count(self, ledger: Ledger) -> None:
        """Count the tasks in end states anew, from time to time: else the transitions keep their number."""
        if self._clock.monotonic_s() < self._count_at_s:
            return
        if await ledger.read(stats.finality_broken, ledger.source_id):
            self._metrics.finality_broken()
        counts, upto = await ledger.read(stats.ended, ledger.source_id)
        await self._follow_moves(ledger, upto)
        self._metrics.tasks.counted(counts)
        self._count_at_s = self._clock.monotonic_s() + _COUNT_EVERY_S
