"""What attempts came to, on its way into the ledger: outcomes that come together are stored in one batch."""

import math
from collections.abc import Callable, Sequence
from random import Random

from watcher.clock import Clock
from watcher.errors import TryLater
from watcher.inflight import InFlight
from watcher.ledger import claims, sending
from watcher.ledger.claims import RetryAt
from watcher.ledger.sending import Settlement
from watcher.ledger.store import Ledger
from watcher.operator.log_once import LogOnce, log_dropped
from watcher.operator.pacing import SubmitPlan
from watcher.operator.post import Post
from watcher.operator.refusal import STUBBORN_MARK
from watcher.operator.request import disagreement
from watcher.operator.route import NOT_SENT_MARK, api_replied
from watcher.state import State
from watcher.task import Accepted, Refused, Sent

# The first outcome is stored at once; those that follow within this time share the next batch.
_GATHER_S = 0.01
_BATCH_LIMIT = 256
# The shortest time between two wake-ups of refused tasks: an API may take some tasks and refuse others.
_WAKE_EVERY_S = 5.0


class Settler:
    """Stores outcomes in batches, in the order of their replies."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        random: Random,
        log_once: LogOnce,
        plan: SubmitPlan,
        on_reopened: Callable[[], None],
    ) -> None:
        """Start with nothing to store.

        Args:
            ledger: where outcomes go to.
            clock: monotonic time.
            random: the jitter of pauses.
            log_once: logs the outcomes that are stored.
            plan: the pauses.
            on_reopened: called when an API takes requests again, so that those held back for it can be sent.
        """
        self._ledger = ledger
        self._clock = clock
        self._random = random
        self._log_once = log_once
        self._plan = plan
        self._on_reopened = on_reopened
        self._waiting: list[tuple[Settlement, bool]] = []  # True: the log already says what there is to say
        self._job = InFlight(1)
        self._storing = False
        self._some_refused = False
        self._wake_at_s = 0.0

    def follow(self, plan: SubmitPlan) -> None:
        """Use new settings for the next outcomes."""
        self._plan = plan

    def check(self) -> None:
        """Raise the exception of a batch that has failed."""
        _ = self._job.room

    def sent(self, post: Post, sent: Sent) -> None:
        """Record the outcome of a request, with its circuit too."""
        attempt, draft = post.attempt, post.draft
        circuit, left_s = draft.route.circuit, draft.left_s
        was_closed = circuit.closed
        within_s = None if left_s is None else self._plan.within_s(math.inf, left_s)
        circuit.record(sent.outcome, replied=api_replied(sent), within_s=within_s)
        self._log_once.circuit_changed(draft.route, was_closed, sent)
        reopens = not was_closed and circuit.closed
        if reopens:
            self._on_reopened()
        is_repeated = self._log_once.is_repeated(attempt.api, sent)
        retry_at = self._plan.retry_at(attempt.task, sent, draft.cleared.at, self._random.random, left_s)
        warning = disagreement(draft.request, sent.outcome)
        self._store_soon(Settlement(attempt, sent, retry_at, warning, reopens), is_repeated=is_repeated)

    def refused(self, post: Post) -> None:
        """Settle an attempt that its circuit does not admit."""
        outcome = Refused(f"{NOT_SENT_MARK}the API has just refused another request", endpoint=True)
        self._store_soon(_unsent(post, outcome), is_repeated=False)

    def not_sent(self, post: Post, reason: str) -> None:
        """Settle an attempt that is given up before its POST: the task is due again at once."""
        self._store_soon(_unsent(post, Refused(NOT_SENT_MARK + reason)), is_repeated=True)

    async def drain(self) -> None:
        """Wait until every outcome is stored."""
        await self._job.drain()

    def _store_soon(self, settlement: Settlement, *, is_repeated: bool) -> None:
        self._waiting.append((settlement, is_repeated))
        if not self._storing:
            self._storing = True
            self._job.start(self._store_waiting(), "settle")

    async def _store_waiting(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_BATCH_LIMIT], self._waiting[_BATCH_LIMIT:]
                await self._store(batch)
                if len(self._waiting) < _BATCH_LIMIT:
                    await self._clock.sleep(_GATHER_S)
        finally:
            self._storing = False

    async def _store(self, batch: Sequence[tuple[Settlement, bool]]) -> None:
        results = await self._ledger.write_items(sending.settle, [settlement for settlement, _ in batch])
        dropped: list[Settlement] = []
        for (settlement, is_repeated), result in zip(batch, results, strict=True):
            if isinstance(result, State):
                self._log_once.attempt(settlement, result, repeated=is_repeated)
            else:
                # The row stays `sending`; after its lease the confirm stage asks the chain.
                log_dropped(settlement.attempt, str(result))
                dropped.append(settlement)
        await self._keep_evidence(dropped)
        await self._wake_refused([isinstance(settlement.sent.outcome, Accepted) for settlement, _ in batch])

    async def _keep_evidence(self, dropped: Sequence[Settlement]) -> None:
        if dropped:
            try:
                await self._ledger.write(sending.record_late, dropped)
            except TryLater:
                return  # The attempts' rows stay open, which says that their outcomes are unknown.

    async def _wake_refused(self, is_accepted: Sequence[bool]) -> None:
        """Make refused tasks due after an accepted one, except those that need a person."""
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


def _unsent(post: Post, outcome: Refused) -> Settlement:
    return Settlement(post.attempt, Sent(outcome, None, b"", 0), RetryAt())
