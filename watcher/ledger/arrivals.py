"""A claim that waits: it is made in the very commit that brings tasks, which would else take one more.

Invariant: it is the claim that the stage makes itself, with lease and fence. A stage that cannot get to the tasks gives
them back.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from watcher.clock import Clock
from watcher.errors import TryLater
from watcher.ledger import claims
from watcher.ledger.store import Ledger
from watcher.ledger.transaction import Tx
from watcher.state import State
from watcher.task import OpenTask


@dataclass(frozen=True, slots=True)
class Arrived:
    """Tasks that were claimed as they came. `rest_s`: the seconds until others are due, 0 if some may be due now."""

    tasks: Sequence[OpenTask] = ()
    rest_s: float = 0.0


class Arrivals:
    """The waiting claim of one stage, for tasks that enter one of `states`. Used from one asyncio task."""

    def __init__(self, ledger: Ledger, clock: Clock, states: Sequence[State]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._states = tuple(states)
        self._future: asyncio.Future[tuple[list[OpenTask], int]] | None = None
        self._limit = 0
        self._due_s = 0.0

    def expect(self, limit: int, lease_ms: int, rest_s: float) -> None:
        """Claim the next tasks that come, up to `limit` of them; none other is due within `rest_s` seconds."""
        if limit <= 0:
            return
        source_id, above = self._ledger.source_id, self._ledger.held_to_block
        self._limit, self._due_s = limit, self._clock.monotonic_s() + rest_s

        def claim(tx: Tx) -> list[OpenTask]:
            claimed = claims.claim(tx, source_id, self._states, limit, lease_ms, above)
            if above < 0 and len(claimed) < limit:  # nothing is left for another replica
                tx.taken.update(self._states)
            return claimed

        self._future = self._ledger.follow_up(self._states, claim)

    async def take(self) -> Arrived:
        """Return what has come. Nothing comes afterwards, before the next `expect`."""
        future, self._future = self._future, None
        if future is None or self._ledger.withdraw(future):
            return Arrived()
        try:
            tasks, work_made = await future
        except TryLater:
            return Arrived()  # the stage's own claim meets the same failure
        is_all = 0 < len(tasks) < self._limit and work_made == self._ledger.work_made
        return Arrived(tasks, max(0.0, self._due_s - self._clock.monotonic_s()) if is_all else 0.0)
