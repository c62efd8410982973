"""Stage: computed -> accepted, unknown, waiting or blocked. Send each answer, never blindly.

Invariants: right before a POST the chain has shown that the task is canonical, unanswered and within its window; the
attempt row is committed before the POST leaves; every attempt for a task, to whichever API, carries the bytes the
ledger holds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from loguru import logger

from watcher.clock import Clock
from watcher.errors import LostLease, Quarantine, RetryElsewhere, TryLater
from watcher.inflight import InFlight
from watcher.ledger import claims, outcomes, queries
from watcher.ledger.claims import Attempt, RetryAt
from watcher.ledger.store import Ledger
from watcher.operator.log_once import LogOnce
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
    choose,
    is_strange,
    reached,
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
# Answers tend to come back in bunches; waiting this long lets one look at the chain serve all of them.
_GATHER_S = 0.01
_UNCLEAR_S = 1.0
# Of how many tasks what the proxy can serve is learned, and how often.
_LEARN_TASKS = 1000
_LEARN_EVERY_S = 60.0
# An API that takes some tasks and refuses others must not be asked for all of them at each success.
_WAKE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class _Post:
    """One request about to go out, to one API; the chain showed at block `at` that it may."""

    held: OpenTask
    route: Route
    request: Request
    at: Header
    left_s: float | None


class Submit:
    """Sends what is computed, nearest deadline first, `concurrency` at a time."""

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
        """`left_s` gives the seconds a task has left behind a block, None without a deadline."""
        self._left_s = left_s
        self._wakes_at_s = 0.0
        self._refused = False
        self._router = router
        self._resolve = resolve
        self._ledger = ledger
        self._clock = clock
        self._random = random
        self._plan = plan
        self._in_flight = InFlight(plan.concurrency)
        self._to_hurry = {PARKED_MARK, HELD_MARK}
        self._learned: set[Quorums] = set()
        self._learn_at_s = 0.0
        self._log_once = LogOnce()
        self._stranded: Sequence[OpenTask] = ()  # claimed when the ledger failed

    async def step(self) -> float:
        """Claim what there is room for, look at the chain, send the rest. Returns the seconds until the next look."""
        if len(self._in_flight):
            await self._clock.sleep(_GATHER_S)
        if self._stranded:
            await self._give_back(self._stranded, 0, None)
            self._stranded = ()
        for mark in sorted(self._to_hurry):  # after a start, a reload or a recovery they may have a way to go
            await self._ledger.write(claims.make_due, self._ledger.source_id, _TO_SEND, mark)
            self._to_hurry.discard(mark)
        room = self._in_flight.room if self._router.some_closed else min(self._in_flight.room, 1)
        if not room:
            await self._in_flight.wait_for_room(self._plan.idle_s)
            return 0
        if (closed_for_s := self._router.wait_s()) > 0:
            return min(closed_for_s, self._plan.idle_s)
        held = await self._ledger.write(claims.claim, self._ledger.source_id, _TO_SEND, room, self._plan.lease_ms)
        if not held:
            now_ms = self._clock.now_ms()
            return await self._ledger.read(queries.rest_s, self._ledger.source_id, _TO_SEND, now_ms, self._plan.idle_s)
        try:
            await self._look_and_send(held)
        except TryLater:
            self._stranded = held
            raise
        return 0

    def follow(self, plan: SubmitPlan, router: Router) -> None:
        """Take new numbers and routes for the attempts that begin from now on.

        An API that had refused us is tried at once, and what was parked is looked at again: it may be mended. How many
        are on their way at once stays.
        """
        self._plan, self._router = plan, router
        self._learn_at_s = 0.0
        self._log_once.settings_changed()
        self.make_due()

    def make_due(self) -> None:
        """An API that was away or refused us may be there again: do not wait for the next turn to try it."""
        self._to_hurry |= {PARKED_MARK, HELD_MARK, NOT_SENT_MARK}
        for route in self._router.routes:
            route.circuit.make_due()

    async def drain(self) -> None:
        """Let the requests on their way come back; nothing is claimed any more."""
        await self._in_flight.drain()

    async def _learn(self) -> None:
        """What the proxy can serve, from what it has served."""
        now_s = self._clock.monotonic_s()
        if not self._router.learns or now_s < self._learn_at_s:
            return
        self._learned = await self._ledger.read(
            queries.brought_by, self._ledger.source_id, self._router.main.api, _LEARN_TASKS
        )
        self._learn_at_s = now_s + (_LEARN_EVERY_S if self._learned else self._plan.idle_s)

    async def _look_and_send(self, held: Sequence[OpenTask]) -> None:
        try:
            verdicts = await self._resolve(held)
        except RetryElsewhere as no_evidence:
            await self._give_back(held, self._plan.delay_s(self._random.random, 1), f"not sent: {no_evidence}")
            raise
        await self._learn()
        await self._act(held, verdicts)

    async def _act(self, held: Sequence[OpenTask], verdicts: Sequence[Verdict]) -> None:
        posts: list[_Post] = []
        for one, verdict in zip(held, verdicts, strict=True):
            match verdict:
                case NotYet(at):
                    probing = {post.route.api for post in posts}
                    route = await self._route(one, at, probing)
                    request = None if route is None else await self._request(one, at, route)
                    if route is not None and request is not None:
                        posts.append(_Post(one, route, request, at, self._left_s(one.task, at)))
                case RespondedByUs(event) | RespondedOtherwise(event):
                    await self._ledger.write(
                        outcomes.answered, [(one, event)], by_us=isinstance(verdict, RespondedByUs)
                    )
                case WouldRevert(at, words, park=True):
                    await self._put_off(one, at, self._plan.retry_max_s, PARKED_MARK + words)
                case WouldRevert(at, words):
                    await self._give_back([one], 0, words, at.number + 1)
                case _:
                    # Too late, orphaned or unclear: confirmation decides at finality, nothing is sent meanwhile.
                    await self._give_back([one], _UNCLEAR_S, None)
        for route in self._router.routes:
            await self._send_all([post for post in posts if post.route.api == route.api])

    async def _route(self, held: OpenTask, at: Header, probing: set[str]) -> Route | None:
        match choose(held.task, self._router, self._learned, probing):
            case Route() as route:
                if route is self._router.main and is_strange(held.task, self._router, self._learned):
                    self._log_once.once(
                        f"the proxy has not served quorum numbers {list(held.task.quorum_numbers)} with threshold "
                        f"{held.task.quorum_threshold} % yet; if the contract refuses what it makes of such tasks, "
                        "configure [operator.direct]"
                    )
                return route
            case Parked(why):
                self._log_once.once(f"task {held.task.task_index} and its like are not sent: {why}", why)
                await self._put_off(held, at, self._plan.retry_max_s, why)
            case Hold(after_s):
                words = f"{HELD_MARK}its API refuses us or cannot be reached"
                await self._put_off(held, at, min(after_s, self._plan.retry_max_s), words)
        return None

    async def _request(self, held: OpenTask, at: Header, route: Route) -> Request | None:
        try:
            return route.build(held, held.attempts + 1)
        except Quarantine as unfit:
            self._log_once.once(f"not sent, as others like it: {unfit}", "unfit")
            await self._put_off(held, at, self._plan.retry_max_s, str(unfit))
            return None

    async def _send_all(self, posts: Sequence[_Post]) -> None:
        """Begin and start what goes to one API."""
        if not posts:
            return
        by_row = {post.held.row_id: post for post in posts}
        digests = {row_id: post.request.digest for row_id, post in by_row.items()}
        held = [post.held for post in posts]
        for attempt in await self._ledger.write(claims.begin, held, posts[0].route.api, digests, self._plan.lease_ms):
            post = by_row[attempt.held.row_id]
            if not post.route.circuit.admit():
                await self._not_sent(attempt)
                continue
            self._in_flight.start(self._send(attempt, post), f"send {attempt.held.task.task_index}")

    async def _not_sent(self, attempt: Attempt) -> None:
        sent = Sent(Refused("not sent: the endpoint has just refused us", endpoint=True), None, b"", 0)
        await self._settle(attempt, sent, RetryAt())

    async def _send(self, attempt: Attempt, post: _Post) -> None:
        held, circuit = attempt.held, post.route.circuit
        sent = await post.route.sender.send(post.request)
        # The next may go out while this one's outcome is written down; what is claimed for it shares that commit.
        self._in_flight.release_slot()
        was_closed = circuit.closed
        within_s = None if post.left_s is None else self._plan.within_s(math.inf, post.left_s)
        circuit.record(sent.outcome, reached=reached(sent), within_s=within_s)
        self._log_once.circuit(post.route, was_closed, sent)
        if not was_closed and circuit.closed:
            self._to_hurry.add(HELD_MARK)
        again = self._plan.again(held, sent, post.at, self._random.random, post.left_s)
        quiet = self._log_once.reached(post.route.api, sent)
        await self._settle(attempt, sent, again, disagreement(post.request, sent.outcome), quiet=quiet)

    async def _settle(
        self, attempt: Attempt, sent: Sent, again: RetryAt, warning: str | None = None, *, quiet: bool = False
    ) -> None:
        log = logger.bind(task=attempt.held.task.task_index)
        try:
            state = await self._ledger.write(claims.settle, attempt, sent, again, warning)
        except (LostLease, TryLater) as trouble:
            # The row says `sending`; when its lease has run out, confirmation asks the chain.
            log.warning("the outcome of attempt {} moved nothing: {}", attempt.held.attempts, trouble)
            await self._keep_evidence(attempt, sent)
            return
        await self._wake_the_refused(sent.outcome)
        words = warning or sent.words
        if state is State.ACCEPTED and warning is None:
            log.info("attempt {} accepted in {} ms", attempt.held.attempts, sent.duration_ms)
        else:
            log.log("DEBUG" if quiet else "WARNING", "attempt {}: {} ({})", attempt.held.attempts, state, words)

    async def _wake_the_refused(self, outcome: Outcome) -> None:
        """Make due what the API has put off once it takes a task again, but not what it will hardly ever take."""
        if not isinstance(outcome, Accepted):
            self._refused = True
        elif self._refused and self._clock.monotonic_s() >= self._wakes_at_s:
            self._refused, self._wakes_at_s = False, self._clock.monotonic_s() + _WAKE_EVERY_S
            await self._ledger.write(claims.make_due, self._ledger.source_id, [State.WAITING], "", but=STUBBORN_MARK)

    async def _put_off(self, held: OpenTask, at: Header, pause_s: float, words: str) -> None:
        """Give a task back for a while, of which its deadline decides as well."""
        await self._give_back([held], self._plan.within_s(pause_s, self._left_s(held.task, at)), words)

    async def _keep_evidence(self, attempt: Attempt, sent: Sent) -> None:
        try:
            await self._ledger.write(claims.record_late, attempt, sent)
        except TryLater:
            return  # the row of the attempt stays open, and says that much itself

    async def _give_back(self, held: Sequence[OpenTask], after_s: float, words: str | None, block: int = 0) -> None:
        again = RetryAt(int(after_s * 1000), block)
        for one in held:
            try:
                await self._ledger.write(claims.release, one, again, words)
            except LostLease:
                continue
