"""The submit stage: computed, waiting, blocked -> sending -> accepted, unknown, waiting or blocked.

Invariants: right before a POST the chain shows that the task is canonical, unanswered and within its window; the
attempt row is committed before the POST; every attempt for a task, to any API, sends the answer that the ledger stores.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from watcher.clock import Clock
from watcher.errors import LostLease, Quarantine, RetryElsewhere, TryLater
from watcher.inflight import InFlight
from watcher.ledger import claims, outcomes, queries, sending
from watcher.ledger.claims import RetryAt
from watcher.ledger.sending import Attempt, Settlement
from watcher.ledger.store import Ledger
from watcher.operator.log_once import LogOnce, log_dropped
from watcher.operator.pacing import LeftS, SubmitPlan
from watcher.operator.refusal import STUBBORN_MARK
from watcher.operator.request import Request, disagreement
from watcher.operator.route import (
    HELD_MARK,
    NOT_SENT_MARK,
    PARKED_MARK,
    Hold,
    Parked,
    Quorums,
    Route,
    Router,
    api_replied,
    choose,
    is_untried,
)
from watcher.state import State
from watcher.task import (
    Accepted,
    Header,
    NotYet,
    OpenTask,
    Outcome,
    Refused,
    Resolve,
    RespondedByUs,
    RespondedOtherwise,
    Sent,
    Verdict,
    WouldRevert,
)

_TO_SEND = (State.COMPUTED, State.WAITING, State.BLOCKED)
# Answers tend to be computed in bunches; after this wait one reading of the chain serves all of them.
_GATHER_S = 0.01
# The pause of a task whose verdict is unclear, or that confirmation will end.
_UNCLEAR_S = 1.0
# The quorums that the proxy has served: read from this many tasks, this often.
_SERVED_TASKS = 1000
_SERVED_EVERY_S = 60.0
# The shortest time between two wake-ups of refused tasks: an API may take some tasks and refuse others.
_WAKE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class _Post:
    """One request to be sent. `at`: the block at which the chain allows it; `left_s`: seconds to its deadline."""

    open_task: OpenTask
    route: Route
    request: Request
    at: Header
    left_s: float | None


class Submit:
    """The submit stage: sends answers, nearest deadline first, `concurrency` at a time."""

    name = "submit"

    def __init__(
        self,
        router: Router,
        resolve: Resolve,
        ledger: Ledger,
        clock: Clock,
        random: Random,
        plan: SubmitPlan,
        left_s: LeftS = lambda _task, _at: None,
    ) -> None:
        """Take the stage's parts.

        Args:
            router: the APIs, and the rules between them.
            resolve: reads verdicts on tasks from the chain.
            ledger: where tasks come from and outcomes go to.
            clock: time of day and monotonic time.
            random: the jitter of pauses.
            plan: numbers from the settings.
            left_s: the seconds a task has left behind a block; None: no deadline.
        """
        self._left_s = left_s
        self._wake_at_s = 0.0
        self._some_refused = False
        self._router = router
        self._resolve = resolve
        self._ledger = ledger
        self._clock = clock
        self._random = random
        self._plan = plan
        self._in_flight = InFlight(plan.concurrency)
        self._due_marks = {PARKED_MARK, HELD_MARK}
        self._served: set[Quorums] = set()
        self._served_at_s = 0.0
        self._log_once = LogOnce(clock)
        self._stranded: Sequence[OpenTask] = ()  # claimed when the ledger failed

    async def step(self) -> float:
        """Claim tasks, read their verdicts, send what may be sent. Return the seconds until the next step."""
        if len(self._in_flight):
            await self._clock.sleep(_GATHER_S)
        if self._stranded:
            await self._release(self._stranded, 0, None)
            self._stranded = ()
        for mark in sorted(self._due_marks):  # After a start, a reload or a recovery these tasks may be sendable.
            await self._ledger.write(claims.make_due, self._ledger.source_id, _TO_SEND, mark)
            self._due_marks.discard(mark)
        room = self._in_flight.room if self._router.some_closed else min(self._in_flight.room, 1)
        if not room:
            await self._in_flight.wait_for_room(self._plan.idle_s)
            return 0
        if (open_for_s := self._router.wait_s()) > 0:
            return min(open_for_s, self._plan.idle_s)
        claimed = await self._ledger.write(claims.claim, self._ledger.source_id, _TO_SEND, room, self._plan.lease_ms)
        if not claimed:
            now_ms = self._clock.now_ms()
            return await self._ledger.read(queries.rest_s, self._ledger.source_id, _TO_SEND, now_ms, self._plan.idle_s)
        try:
            await self._resolve_and_send(claimed)
        except TryLater:
            self._stranded = claimed
            raise
        return 0

    def follow(self, plan: SubmitPlan, router: Router) -> None:
        """Use new settings for the next attempts; the concurrency stays.

        APIs with an open circuit are probed at once, and parked tasks are looked at again.
        """
        self._plan, self._router = plan, router
        self._served_at_s = 0.0
        self._log_once.settings_changed()
        self.make_due()

    def make_due(self) -> None:
        """Make due every task that waits for an API: an API that was unavailable may be back."""
        self._due_marks |= {PARKED_MARK, HELD_MARK, NOT_SENT_MARK}
        for route in self._router.routes:
            route.circuit.make_due()

    async def drain(self) -> None:
        """Wait for the outcomes of running requests; claim nothing more."""
        await self._in_flight.drain()

    async def _read_served(self) -> None:
        """Read from the ledger the quorums that the proxy has served, if the settings do not name them."""
        now_s = self._clock.monotonic_s()
        if not self._router.learns or now_s < self._served_at_s:
            return
        self._served = await self._ledger.read(
            queries.brought_by, self._ledger.source_id, self._router.main.api, _SERVED_TASKS
        )
        self._served_at_s = now_s + (_SERVED_EVERY_S if self._served else self._plan.idle_s)

    async def _resolve_and_send(self, claimed: Sequence[OpenTask]) -> None:
        try:
            verdicts = await self._resolve(claimed)
        except RetryElsewhere as error:
            await self._release(claimed, self._plan.delay_s(self._random.random, 1), f"{NOT_SENT_MARK}{error}")
            raise
        await self._read_served()
        await self._act(claimed, verdicts)

    async def _act(self, claimed: Sequence[OpenTask], verdicts: Sequence[Verdict]) -> None:
        posts: list[_Post] = []
        for open_task, verdict in zip(claimed, verdicts, strict=True):
            match verdict:
                case NotYet(at):
                    probing = {post.route.api for post in posts}
                    route = await self._route(open_task, at, probing)
                    request = None if route is None else await self._request(open_task, at, route)
                    if route is not None and request is not None:
                        posts.append(_Post(open_task, route, request, at, self._left_s(open_task.task, at)))
                case RespondedByUs(event) | RespondedOtherwise(event):
                    by_us = isinstance(verdict, RespondedByUs)
                    await self._ledger.write(outcomes.answered, [(open_task, event)], by_us=by_us)
                case WouldRevert(at, reason, park=True):
                    await self._put_off(open_task, at, self._plan.retry_max_s, PARKED_MARK + reason)
                case WouldRevert(at, reason):
                    await self._release([open_task], 0, reason, at.number + 1)
                case _:
                    # Too late, orphaned or unclear: the confirm stage decides at finality; nothing is sent.
                    await self._release([open_task], _UNCLEAR_S, None)
        for route in self._router.routes:
            await self._send_all([post for post in posts if post.route.api == route.api])

    async def _route(self, open_task: OpenTask, at: Header, probing: set[str]) -> Route | None:
        task = open_task.task
        match choose(task, self._router, self._served, probing):
            case Route() as route:
                if route is self._router.main and is_untried(task, self._router, self._served):
                    self._log_once.untried_quorums(task)
                return route
            case Parked(reason):
                self._log_once.parked(task, reason)
                await self._put_off(open_task, at, self._plan.retry_max_s, reason)
            case Hold(after_s):
                reason = f"{HELD_MARK}the API refuses requests or cannot be reached"
                await self._put_off(open_task, at, min(after_s, self._plan.retry_max_s), reason)
        return None

    async def _request(self, open_task: OpenTask, at: Header, route: Route) -> Request | None:
        try:
            return route.build(open_task, open_task.attempts + 1)
        except Quarantine as error:
            self._log_once.request_invalid(open_task.task, str(error))
            await self._put_off(open_task, at, self._plan.retry_max_s, str(error))
            return None

    async def _send_all(self, posts: Sequence[_Post]) -> None:
        """Commit the attempts to one API, then start them."""
        if not posts:
            return
        by_row = {post.open_task.row_id: post for post in posts}
        digests = {row_id: post.request.digest for row_id, post in by_row.items()}
        tasks = [post.open_task for post in posts]
        for attempt in await self._ledger.write(sending.begin, tasks, posts[0].route.api, digests, self._plan.lease_ms):
            post = by_row[attempt.task.row_id]
            if not post.route.circuit.admit():
                await self._not_sent(attempt, post)
                continue
            self._in_flight.start(self._send(attempt, post), f"send {attempt.task.task.task_index}")

    async def _not_sent(self, attempt: Attempt, post: _Post) -> None:
        refused = Refused(f"{NOT_SENT_MARK}the API has just refused another request", endpoint=True)
        await self._settle(attempt, post, Sent(refused, None, b"", 0), RetryAt())

    async def _send(self, attempt: Attempt, post: _Post) -> None:
        circuit = post.route.circuit
        sent = await post.route.sender.send(post.request)
        # The next request may start while this outcome is written; its claim shares the commit.
        self._in_flight.release_slot()
        was_closed = circuit.closed
        within_s = None if post.left_s is None else self._plan.within_s(math.inf, post.left_s)
        circuit.record(sent.outcome, replied=api_replied(sent), within_s=within_s)
        self._log_once.circuit_changed(post.route, was_closed, sent)
        if not was_closed and circuit.closed:
            self._due_marks.add(HELD_MARK)
        retry_at = self._plan.retry_at(attempt.task, sent, post.at, self._random.random, post.left_s)
        await self._settle(attempt, post, sent, retry_at, repeated=self._log_once.is_repeated(post.route.api, sent))

    async def _settle(
        self, attempt: Attempt, post: _Post, sent: Sent, retry_at: RetryAt, *, repeated: bool = False
    ) -> None:
        warning = disagreement(post.request, sent.outcome)
        try:
            state = await self._ledger.write_item(sending.settle, Settlement(attempt, sent, retry_at, warning))
        except (LostLease, TryLater) as error:
            # The row stays `sending`; after its lease the confirm stage asks the chain.
            log_dropped(attempt, str(error))
            await self._keep_evidence(attempt, sent)
            return
        await self._wake_refused(sent.outcome)
        self._log_once.attempt(attempt, post.route.api, sent, state, warning, repeated=repeated)

    async def _wake_refused(self, outcome: Outcome) -> None:
        """Make refused tasks due after an accepted one, except those that need a person."""
        if not isinstance(outcome, Accepted):
            self._some_refused = True
        elif self._some_refused and self._clock.monotonic_s() >= self._wake_at_s:
            self._some_refused, self._wake_at_s = False, self._clock.monotonic_s() + _WAKE_EVERY_S
            await self._ledger.write(claims.make_due, self._ledger.source_id, [State.WAITING], "", but=STUBBORN_MARK)

    async def _put_off(self, open_task: OpenTask, at: Header, pause_s: float, reason: str) -> None:
        """Release a task for `pause_s` seconds, or less if its deadline is near."""
        await self._release([open_task], self._plan.within_s(pause_s, self._left_s(open_task.task, at)), reason)

    async def _keep_evidence(self, attempt: Attempt, sent: Sent) -> None:
        try:
            await self._ledger.write(sending.record_late, [Settlement(attempt, sent, RetryAt())])
        except TryLater:
            return  # The attempt's row stays open, which says that its outcome is unknown.

    async def _release(self, claimed: Sequence[OpenTask], after_s: float, reason: str | None, block: int = 0) -> None:
        retry_at = RetryAt(int(after_s * 1000), block)
        for open_task in claimed:
            try:
                await self._ledger.write(claims.release, open_task, retry_at, reason)
            except LostLease:
                continue
