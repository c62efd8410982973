"""The submit stage: computed, waiting, blocked -> sending -> accepted, unknown, waiting or blocked.

A pipeline: claim and ask for verdicts (`verdicts.py`), wait in line (`line.py`), choose the API and build the request
(`drafts.py`), begin an attempt, send it from a slot (`slots.py`), store its outcome (`settler.py`). While ledger and
chain are asked for the next tasks, attempts for those in the line begin.

Invariants: right before a POST the chain shows that the task is canonical, unanswered and within its window; the
attempt row is committed before the POST; every attempt for a task, to any API, sends the answer that the ledger stores.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from random import Random

from watcher.clock import Clock
from watcher.errors import RetryElsewhere, TryLater
from watcher.ledger import claims, outcomes, queries, sending
from watcher.ledger.arrivals import Arrivals
from watcher.ledger.claims import Release, RetryAt
from watcher.ledger.sending import Settlement
from watcher.ledger.store import Ledger
from watcher.operator.drafts import Drafts
from watcher.operator.line import Freshness, Line
from watcher.operator.log_once import LogOnce
from watcher.operator.pacing import LeftS, SubmitPlan
from watcher.operator.post import Cleared, Draft, Post
from watcher.operator.request import disagreement
from watcher.operator.route import HELD_MARK, NOT_SENT_MARK, PARKED_MARK, Router, api_replied
from watcher.operator.settler import Outgoing, Settler
from watcher.operator.slots import Slots
from watcher.operator.verdicts import consequences
from watcher.state import State
from watcher.task import NotYet, OpenTask, Refused, Resolve, Sent, Verdict

_TO_SEND = (State.COMPUTED, State.WAITING, State.BLOCKED)
# The shortest time between two readings of the chain: answers tend to be computed in bunches.
_GATHER_S = 0.02
# The line holds what the slots take within this time, so that a nearer deadline that comes later waits no longer.
_LINE_S = 1.0
_LINE_LEAST, _LINE_MOST = 16, 256


class Submit:
    """The submit stage: sends answers, nearest deadline first, up to `concurrency` at a time."""

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
        share: Callable[[], int] | None = None,
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
            share: returns how many requests this process may have on their way now; None: the plan's concurrency.
        """
        self._resolve = resolve
        self._ledger = ledger
        self._clock = clock
        self._random = random
        self._plan = plan
        self._left_s = left_s
        self._log_once = LogOnce(clock)
        self._drafts = Drafts(router, ledger, clock, self._log_once, plan, left_s)
        freshness = Freshness(ledger, clock)
        self._line = Line(freshness)
        self._slots = Slots(clock, plan.concurrency, freshness, self._sent, self._refused, share)
        self._settler = Settler(ledger, clock, self._log_once)
        self._arrivals = Arrivals(ledger, clock, _TO_SEND)
        self._known_rest_s = 0.0  # of what has arrived: nothing else is due before
        self._due_marks = {PARKED_MARK, HELD_MARK}
        self._resolved_s = -math.inf
        self._stranded: tuple[OpenTask, ...] = ()  # claimed when the ledger failed

    async def step(self) -> float:
        """Bring tasks one stretch forward on their way to the slots. Return the seconds until the next step."""
        self._settler.check()
        if self._stranded:
            await self._release([Release(task, RetryAt()) for task in self._stranded])
            self._stranded = ()
        some_made_due = bool(self._due_marks)
        for mark in sorted(self._due_marks):  # After a start, a reload or a recovery these tasks may be sendable.
            await self._ledger.write(claims.make_due, self._ledger.source_id, _TO_SEND, mark)
            self._due_marks.discard(mark)
        await self._renew(self._slots.take_expired())
        room = self._room
        if not room:
            await self._slots.wait_for_room(self._plan.idle_s)
            return 0
        if len(self._line) >= max(room, self._most(room) // 2) and await self._begin(room):
            return 0
        wait_s = self._drafts.router.wait_s()
        if wait_s:  # no API takes what arrives now
            await self._release([Release(task, RetryAt()) for task in (await self._arrivals.take()).tasks])
        is_more = wait_s == 0 and await self._beginning(self._claim(room, anew=some_made_due))
        await self._begin(self._room)
        if is_more or (wait_s == 0 and self._line.has_some):
            return 0
        return min(wait_s, self._plan.idle_s) if wait_s else await self._rest_s()

    def follow(self, plan: SubmitPlan, router: Router) -> None:
        """Use new settings for the next attempts; the concurrency stays.

        APIs with an open circuit are probed at once, and parked tasks are looked at again.
        """
        self._plan = plan
        self._drafts.follow(plan, router)
        self._log_once.settings_changed()
        self.make_due()

    def make_due(self) -> None:
        """Make due every task that waits for an API: an API that was unavailable may be back."""
        self._due_marks |= {PARKED_MARK, HELD_MARK, NOT_SENT_MARK}
        for route in self._drafts.router.routes:
            route.circuit.make_due()

    async def drain(self) -> None:
        """Release what is not sent yet, and wait for the outcomes of running requests; claim nothing more."""
        for post in self._slots.take_ready():
            self._not_sent(post, "the daemon stops")
        arrived = (await self._arrivals.take()).tasks
        try:
            await self._release(
                [Release(task, RetryAt()) for task in (*self._line.take_all(), *self._stranded, *arrived)]
            )
        except TryLater:
            pass  # no lease outlives the process
        await self._slots.drain()
        await self._settler.drain()

    @property
    def limit(self) -> int:
        """Return how many requests may run at a time now."""
        return self._slots.limit

    @property
    def running(self) -> int:
        """Return how many requests are on their way."""
        return self._slots.running

    def share_changed(self) -> None:
        """Use a new share at once."""
        self._slots.refill()

    @property
    def _room(self) -> int:
        room = self._slots.room
        return room if self._drafts.router.some_closed else min(room, 1)

    async def _rest_s(self) -> float:
        """Return the seconds until a task is due. One that comes before is claimed by the commit that brings it."""
        rest_s, self._known_rest_s = self._known_rest_s, 0.0
        if not rest_s:
            now_ms, source_id = self._clock.now_ms(), self._ledger.source_id
            rest_s = await self._ledger.read(queries.rest_s, source_id, _TO_SEND, now_ms, self._plan.idle_s)
        self._arrivals.expect(self._most(self._room), self._plan.lease_ms, rest_s)
        return rest_s

    def _most(self, room: int) -> int:
        """Return how many tasks may be on their way to the slots."""
        if not self._drafts.router.some_closed:
            return room
        return max(room, min(_LINE_MOST, max(_LINE_LEAST, self._slots.taken_within(_LINE_S))))

    async def _claim(self, room: int, *, anew: bool) -> bool:
        """Claim tasks, ask for verdicts, and put those that may be answered into the line.

        Return True if there may be more to claim. A task that comes later wakes the stage. `anew`: tasks were made due.
        """
        pause_s = self._resolved_s + _GATHER_S - self._clock.monotonic_s()
        if pause_s > 0:
            await self._clock.sleep(pause_s)
        arrived = await self._arrivals.take()
        self._known_rest_s = 0.0 if anew else arrived.rest_s
        tasks = [*self._line.take_expired(), *arrived.tasks]
        count = self._most(room) - len(self._line) - len(tasks)
        claimed: Sequence[OpenTask] = ()
        if count > 0 and not self._known_rest_s:
            try:
                claimed = await self._ledger.write(
                    claims.claim, self._ledger.source_id, _TO_SEND, count, self._plan.lease_ms
                )
            except TryLater:
                self._stranded += tuple(tasks)
                raise
        if tasks or claimed:
            await self._clear([*tasks, *claimed])
        return not self._known_rest_s and len(claimed) >= count

    async def _beginning(self, claim: Coroutine[None, None, bool]) -> bool:
        """Return the result of a claim. While it waits for ledger and chain, begin attempts for those in the line."""
        if not self._line:
            return await claim
        claiming = asyncio.create_task(claim, name=self.name)
        claiming.add_done_callback(lambda _: self._slots.wake())
        try:
            while self._line and not claiming.done():
                await self._renew(self._slots.take_expired())
                if room := self._room:
                    await self._begin(room)
                else:
                    await self._slots.wait_for_room(self._plan.idle_s)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                claiming.cancel()
            await asyncio.gather(claiming, return_exceptions=True)
            raise
        return await claiming

    async def _clear(self, tasks: Sequence[OpenTask]) -> None:
        """Ask for verdicts, and act on them."""
        chain_moves = self._ledger.chain_moves
        try:
            verdicts = await self._verdicts(tasks)
            await self._drafts.read_served()
            await self._act(tasks, verdicts, chain_moves)
        except TryLater:
            self._stranded += tuple(tasks)
            raise
        finally:
            self._resolved_s = self._clock.monotonic_s()

    async def _verdicts(self, tasks: Sequence[OpenTask]) -> Sequence[Verdict]:
        try:
            return await self._resolve(tasks)
        except RetryElsewhere as error:
            retry_at = RetryAt(int(self._plan.delay_s(self._random.random, 1) * 1000))
            await self._release([Release(task, retry_at, f"{NOT_SENT_MARK}{error}") for task in tasks])
            raise

    async def _act(self, tasks: Sequence[OpenTask], verdicts: Sequence[Verdict], chain_moves: int) -> None:
        result = consequences(tasks, verdicts, self._plan, self._left_s)
        for answered, by_us in ((result.answered_by_us, True), (result.answered_by_others, False)):
            if answered:
                await self._ledger.write(outcomes.answered, answered, by_us=by_us)
        await self._release(result.releases)
        now_s = self._clock.monotonic_s()
        self._line.add(Cleared(task, at, chain_moves, now_s) for task, at in result.to_answer)

    async def _begin(self, room: int) -> bool:
        """Begin attempts for the tasks at the front of the line. Return False if there is none."""
        drafts: list[Draft] = []
        releases: list[Release] = []
        probing = set(self._slots.apis_ready)
        # An API that has just refused takes one request; the others leave the line at once.
        taken = self._line.take(room if self._drafts.router.some_closed else len(self._line))
        for cleared in taken:
            match self._drafts.draft(cleared, probing):
                case Draft() as draft:
                    drafts.append(draft)
                    probing.add(draft.route.api)
                case Release() as release:
                    releases.append(release)
        try:
            await self._release(releases)
            for api in dict.fromkeys(draft.route.api for draft in drafts):
                await self._begin_at(api, [draft for draft in drafts if draft.route.api == api])
        except TryLater:
            self._stranded += tuple(cleared.task for cleared in taken)
            raise
        return bool(taken)

    async def _begin_at(self, api: str, drafts: Sequence[Draft]) -> None:
        """Commit the attempts to one API, then hand them to the slots."""
        by_row = {draft.cleared.task.row_id: draft for draft in drafts}
        digests = {row_id: draft.request.digest for row_id, draft in by_row.items()}
        tasks = [draft.cleared.task for draft in drafts]
        begun = await self._ledger.write(sending.begin, tasks, api, digests, self._plan.lease_ms)
        now_s = self._clock.monotonic_s()
        self._slots.add(Post(attempt, by_row[attempt.task.row_id], now_s) for attempt in begun)

    async def _renew(self, expired: Sequence[Post]) -> None:
        """Ask for new verdicts on begun attempts whose verdict has expired; settle those that may not be sent now."""
        posts = [post for post in expired if self._slots.in_time(post)]
        for post in expired:
            if not self._slots.in_time(post):
                self._not_sent(post, "every slot was busy for too long")
        if not posts:
            return
        chain_moves = self._ledger.chain_moves
        try:
            verdicts: Sequence[Verdict | None] = await self._resolve([post.attempt.task for post in posts])
        except (RetryElsewhere, TryLater):
            verdicts = [None] * len(posts)
        self._slots.add(self._renewed(posts, verdicts, chain_moves))

    def _renewed(self, posts: Sequence[Post], verdicts: Sequence[Verdict | None], chain_moves: int) -> list[Post]:
        renewed = []
        for post, verdict in zip(posts, verdicts, strict=True):
            if isinstance(verdict, NotYet):
                cleared = Cleared(post.draft.cleared.task, verdict.at, chain_moves, self._clock.monotonic_s())
                renewed.append(replace(post, draft=replace(post.draft, cleared=cleared)))
            else:
                self._not_sent(post, "the chain has moved on since its verdict")
        return renewed

    def _sent(self, post: Post, sent: Sent) -> None:
        """Record the outcome of a request."""
        draft, api, circuit = post.draft, post.draft.route.api, post.draft.route.circuit
        was_closed = circuit.closed
        within_s = None if draft.left_s is None else self._plan.within_s(math.inf, draft.left_s)
        circuit.record(sent.outcome, replied=api_replied(sent), within_s=within_s)
        self._log_once.circuit_changed(draft.route, was_closed, sent)
        reopens = not was_closed and circuit.closed
        if reopens:
            self._due_marks.add(HELD_MARK)
        repeated = self._log_once.is_repeated(api, sent)
        retry_at = self._plan.retry_at(post.attempt.task, sent, draft.cleared.at, self._random.random, draft.left_s)
        warning = disagreement(draft.request, sent.outcome)
        self._settler.add(Outgoing(Settlement(post.attempt, sent, retry_at, warning, reopens), api, repeated))

    def _refused(self, post: Post) -> None:
        """Settle an attempt that its circuit does not admit."""
        refused = Refused(f"{NOT_SENT_MARK}the API has just refused another request", endpoint=True)
        self._settle_unsent(post, refused, repeated=False)

    def _not_sent(self, post: Post, reason: str) -> None:
        """Settle an attempt that is given up before its POST: the task is due again at once."""
        self._settle_unsent(post, Refused(NOT_SENT_MARK + reason), repeated=True)

    def _settle_unsent(self, post: Post, refused: Refused, *, repeated: bool) -> None:
        settlement = Settlement(post.attempt, Sent(refused, None, b"", 0), RetryAt())
        self._settler.add(Outgoing(settlement, post.draft.route.api, repeated))

    async def _release(self, releases: Iterable[Release]) -> None:
        """Release claimed tasks; one that has changed meanwhile is not ours any more."""
        if items := list(releases):
            await self._ledger.write(claims.release_each, items)
