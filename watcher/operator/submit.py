"""The submit stage: computed, waiting, blocked -> sending -> accepted, unknown, waiting or blocked.

A pipeline: claim and ask for verdicts (`clearance.py`), wait in line (`line.py`), choose the API and build the request
(`drafts.py`), begin an attempt, send it from a slot (`slots.py`), store its outcome (`settler.py`). While ledger and
chain are asked for the next tasks, attempts for those in the line begin.

Invariants: right before a POST the chain shows that the task is canonical, unanswered and within its window; the
attempt row is committed before the POST; every attempt for a task, to any API, sends the answer that the ledger stores.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from random import Random

from watcher.clock import Clock
from watcher.errors import RetryElsewhere, TryLater
from watcher.ledger import claims, sending
from watcher.ledger.claims import Release
from watcher.ledger.store import Ledger
from watcher.operator.clearance import TO_SEND, Clearance
from watcher.operator.drafts import Drafts
from watcher.operator.line import Freshness, Line
from watcher.operator.log_once import LogOnce
from watcher.operator.pacing import LeftS, SubmitPlan
from watcher.operator.post import Cleared, Draft, Post
from watcher.operator.route import HELD_MARK, NOT_SENT_MARK, PARKED_MARK, Router
from watcher.operator.settler import Settler
from watcher.operator.slots import Slots
from watcher.task import NotYet, Resolve, Verdict

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
        self._plan = plan
        self._log_once = LogOnce(clock)
        self._due_marks = {PARKED_MARK, HELD_MARK}
        freshness = Freshness(ledger, clock)
        self._line = Line(freshness)
        self._clearance = Clearance(self._line, resolve, ledger, clock, random, plan, left_s)
        self._drafts = Drafts(router, ledger, clock, self._log_once, plan, left_s)
        self._settler = Settler(ledger, clock, random, self._log_once, plan, lambda: self._due_marks.add(HELD_MARK))
        self._slots = Slots(clock, plan.concurrency, freshness, self._settler.sent, self._settler.refused, share)

    async def step(self) -> float:
        """Bring tasks one stretch forward on their way to the slots. Return the seconds until the next step."""
        self._settler.check()
        await self._clearance.release_stranded()
        some_made_due = bool(self._due_marks)
        for mark in sorted(self._due_marks):  # After a start, a reload or a recovery these tasks may be sendable.
            await self._ledger.write(claims.make_due, self._ledger.source_id, TO_SEND, mark)
            self._due_marks.discard(mark)
        await self._renew(self._slots.take_expired())
        room = self._room
        if not room:
            await self._slots.wait_for_room(self._plan.idle_s)
            return 0
        if len(self._line) >= max(room, self._most(room) // 2) and await self._begin(room):
            return 0
        wait_s = self._drafts.router.wait_s()
        if wait_s:
            await self._clearance.release_arrived()
        is_more = wait_s == 0 and await self._beginning(self._clearance.claim(self._most(room), anew=some_made_due))
        await self._begin(self._room)
        if is_more or (wait_s == 0 and self._line.has_some):
            return 0
        return min(wait_s, self._plan.idle_s) if wait_s else await self._clearance.rest_s(self._most(self._room))

    def follow(self, plan: SubmitPlan, router: Router) -> None:
        """Use new settings for the next attempts; the concurrency stays.

        APIs with an open circuit are probed at once, and parked tasks are looked at again.
        """
        self._plan = plan
        for part in (self._clearance, self._settler):
            part.follow(plan)
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
            self._settler.not_sent(post, "the daemon stops")
        await self._clearance.drain()
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

    def _most(self, room: int) -> int:
        """Return how many tasks may be on their way to the slots."""
        if not self._drafts.router.some_closed:
            return room
        return max(room, min(_LINE_MOST, max(_LINE_LEAST, self._slots.taken_within(_LINE_S))))

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

    async def _begin(self, room: int) -> bool:
        """Begin attempts for the tasks at the front of the line. Return False if there is none."""
        if self._line:
            await self._drafts.read_served()
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
            await self._clearance.release(releases)
            for api in dict.fromkeys(draft.route.api for draft in drafts):
                await self._begin_at(api, [draft for draft in drafts if draft.route.api == api])
        except TryLater:
            self._clearance.strand(cleared.task for cleared in taken)
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
                self._settler.not_sent(post, "every slot was busy for too long")
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
                self._settler.not_sent(post, "the chain has moved on since its verdict")
        return renewed
