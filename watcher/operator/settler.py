"""The way of outcomes into the ledger: those that come together are stored in one batch."""

from collections.abc import Sequence
from dataclasses import dataclass

from watcher.clock import Clock
from watcher.errors import TryLater
from watcher.inflight import InFlight
from watcher.ledger import claims, sending
from watcher.ledger.sending import Settlement
from watcher.ledger.store import Ledger
from watcher.operator.log_once import LogOnce, log_dropped
from watcher.operator.refusal import STUBBORN_MARK
from watcher.state import State
from watcher.task import Accepted

# The first outcome is stored at once; those that follow within this time share the next batch.
_GATHER_S = 0.01
_BATCH_LIMIT = 256
# The shortest time between two wake-ups of refused tasks: an API may take some tasks and refuse others.
_WAKE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An outcome on its way into the ledger. `repeated`: the log already says that the API cannot be reached."""

    settlement: Settlement
    api: str
    repeated: bool = False


class Settler:
    """Stores outcomes in batches, in the order of their replies."""

    def __init__(self, ledger: Ledger, clock: Clock, log_once: LogOnce) -> None:
        """Start with nothing to store; `log_once` logs the outcomes that are stored."""
        self._ledger = ledger
        self._clock = clock
        self._log_once = log_once
        self._waiting: list[Outgoing] = []
        self._job = InFlight(1)
        self._storing = False
        self._some_refused = False
        self._wake_at_s = 0.0

    def check(self) -> None:
        """Raise the exception of a batch that has failed."""
        _ = self._job.room

    def add(self, outgoing: Outgoing) -> None:
        """Store an outcome soon."""
        self._waiting.append(outgoing)
        if not self._storing:
            self._storing = True
            self._job.start(self._store_waiting(), "settle")

    async def drain(self) -> None:
        """Wait until every outcome is stored."""
        await self._job.drain()

    async def _store_waiting(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_BATCH_LIMIT], self._waiting[_BATCH_LIMIT:]
                await self._store(batch)
                if len(self._waiting) < _BATCH_LIMIT:
                    await self._clock.sleep(_GATHER_S)
        finally:
            self._storing = False

    async def _store(self, batch: Sequence[Outgoing]) -> None:
        results = await self._ledger.write_items(sending.settle, [outgoing.settlement for outgoing in batch])
        dropped: list[Settlement] = []
        for outgoing, result in zip(batch, results, strict=True):
            settlement = outgoing.settlement
            if isinstance(result, State):
                self._log_once.attempt(settlement, outgoing.api, result, repeated=outgoing.repeated)
            else:
                # The row stays `sending`; after its lease the confirm stage asks the chain.
                log_dropped(settlement.attempt, str(result))
                dropped.append(settlement)
        await self._keep_evidence(dropped)
        await self._wake_refused(batch)

    async def _keep_evidence(self, dropped: Sequence[Settlement]) -> None:
        if dropped:
            try:
                await self._ledger.write(sending.record_late, dropped)
            except TryLater:
                return  # The attempts' rows stay open, which says that their outcomes are unknown.

    async def _wake_refused(self, batch: Sequence[Outgoing]) -> None:
        """Make refused tasks due after an accepted one, except those that need a person."""
        is_accepted = [isinstance(outgoing.settlement.sent.outcome, Accepted) for outgoing in batch]
        now_s = self._clock.monotonic_s()
        if self._some_refused and any(is_accepted) and now_s >= self._wake_at_s:
            self._some_refused, self._wake_at_s = False, now_s + _WAKE_EVERY_S
            try:
                await self._ledger.write(
                    claims.make_due, self._ledger.source_id, [State.WAITING], "", but=STUBBORN_MARK
                )
            except TryLater:
                self._some_refused = True
        self._some_refused |= not all(is_accepted)
