"""The clearance of tasks: claimed, and by the chain's verdicts brought into the line, to their end, or released.

Invariant: a claimed task is in the line or released, whatever fails; one whose release fails is released later.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from watcher.clock import Clock
from watcher.errors import RetryElsewhere, TryLater
from watcher.ledger import claims, outcomes, queries
from watcher.ledger.arrivals import Arrivals
from watcher.ledger.claims import Release, RetryAt
from watcher.ledger.store import Ledger
from watcher.operator.line import Line
from watcher.operator.pacing import LeftS, SubmitPlan
from watcher.operator.post import Cleared
from watcher.operator.route import NOT_SENT_MARK, PARKED_MARK
from watcher.state import State
from watcher.task import (
    Header,
    NotYet,
    OpenTask,
    Resolve,
    Responded,
    RespondedByUs,
    RespondedOtherwise,
    Verdict,
    WouldRevert,
)

TO_SEND = (State.COMPUTED, State.WAITING, State.BLOCKED)
# The shortest time between two readings of the chain: answers tend to be computed in bunches.
_GATHER_S = 0.02
# The pause of a task whose verdict is unclear, or that confirmation will end.
_UNCLEAR_S = 1.0


@dataclass(frozen=True, slots=True)
class Consequences:
    """The consequences of verdicts: tasks to be answered, tasks with a response, tasks to be released."""

    to_answer: list[tuple[OpenTask, Header]] = field(default_factory=list)
    answered_by_us: list[tuple[OpenTask, Responded]] = field(default_factory=list)
    answered_by_others: list[tuple[OpenTask, Responded]] = field(default_factory=list)
    releases: list[Release] = field(default_factory=list)


class Clearance:
    """Brings claimed tasks into the line, each with its verdict."""

    def __init__(
        self,
        line: Line,
        resolve: Resolve,
        ledger: Ledger,
        clock: Clock,
        random: Random,
        plan: SubmitPlan,
        left_s: LeftS,
    ) -> None:
        """Take the parts.

        Args:
            line: gets the tasks that may be answered.
            resolve: reads verdicts on tasks from the chain.
            ledger: where tasks come from.
            clock: monotonic time.
            random: the jitter of pauses.
            plan: numbers from the settings.
            left_s: the seconds a task has left behind a block; None: no deadline.
        """
        self._line = line
        self._resolve = resolve
        self._ledger = ledger
        self._clock = clock
        self._random = random
        self._plan = plan
        self._left_s = left_s
        self._arrivals = Arrivals(ledger, clock, TO_SEND)
        self._known_rest_s = 0.0  # of what has arrived: nothing else is due before
        self._resolved_s = -math.inf
        self._stranded: tuple[OpenTask, ...] = ()

    def follow(self, plan: SubmitPlan) -> None:
        """Use new settings for the next tasks."""
        self._plan = plan

    async def claim(self, most: int, *, anew: bool) -> bool:
        """Claim tasks, ask for verdicts, and put those that may be answered into the line.

        Return True if there may be more to claim. A task that comes later wakes the stage.

        Args:
            most: how many tasks may be in the line.
            anew: tasks were made due.
        """
        pause_s = self._resolved_s + _GATHER_S - self._clock.monotonic_s()
        if pause_s > 0:
            await self._clock.sleep(pause_s)
        arrived = await self._arrivals.take()
        self._known_rest_s = 0.0 if anew else arrived.rest_s
        tasks = [*self._line.take_expired(), *arrived.tasks]
        count = most - len(self._line) - len(tasks)
        claimed: Sequence[OpenTask] = ()
        if count > 0 and not self._known_rest_s:
            try:
                claimed = await self._ledger.write(
                    claims.claim, self._ledger.source_id, TO_SEND, count, self._plan.lease_ms
                )
            except TryLater:
                self.strand(tasks)
                raise
        if tasks or claimed:
            await self._clear([*tasks, *claimed])
        return not self._known_rest_s and len(claimed) >= count

    async def rest_s(self, most: int) -> float:
        """Return the seconds until a task is due. One that comes before is claimed by the commit that brings it.

        `most` is how many of those may be claimed.
        """
        rest_s, self._known_rest_s = self._known_rest_s, 0.0
        if not rest_s:
            now_ms, source_id = self._clock.now_ms(), self._ledger.source_id
            rest_s = await self._ledger.read(queries.rest_s, source_id, TO_SEND, now_ms, self._plan.idle_s)
        self._arrivals.expect(most, self._plan.lease_ms, rest_s)
        return rest_s

    async def release(self, releases: Iterable[Release]) -> None:
        """Release claimed tasks; one that has changed meanwhile is not ours any more."""
        if items := list(releases):
            await self._ledger.write(claims.release_each, items)

    async def release_arrived(self) -> None:
        """Release what has been claimed as it came: no API takes it now."""
        await self.release([Release(task, RetryAt()) for task in (await self._arrivals.take()).tasks])

    def strand(self, tasks: Iterable[OpenTask]) -> None:
        """Keep claimed tasks for `release_stranded`: the ledger has failed."""
        self._stranded += tuple(tasks)

    async def release_stranded(self) -> None:
        """Release the tasks that were claimed when the ledger failed."""
        if self._stranded:
            await self.release([Release(task, RetryAt()) for task in self._stranded])
            self._stranded = ()

    async def drain(self) -> None:
        """Release every claimed task that is not begun; claim nothing more."""
        self.strand([*self._line.take_all(), *(await self._arrivals.take()).tasks])
        try:
            await self.release_stranded()
        except TryLater:
            pass  # no lease outlives the process

    async def _clear(self, tasks: Sequence[OpenTask]) -> None:
        """Ask for verdicts, and act on them."""
        chain_moves = self._ledger.chain_moves
        try:
            await self._act(tasks, await self._verdicts(tasks), chain_moves)
        except TryLater:
            self.strand(tasks)
            raise
        finally:
            self._resolved_s = self._clock.monotonic_s()

    async def _verdicts(self, tasks: Sequence[OpenTask]) -> Sequence[Verdict]:
        try:
            return await self._resolve(tasks)
        except RetryElsewhere as error:
            retry_at = RetryAt(int(self._plan.delay_s(self._random.random, 1) * 1000))
            await self.release([Release(task, retry_at, f"{NOT_SENT_MARK}{error}") for task in tasks])
            raise

    async def _act(self, tasks: Sequence[OpenTask], verdicts: Sequence[Verdict], chain_moves: int) -> None:
        result = consequences(tasks, verdicts, self._plan, self._left_s)
        for answered, by_us in ((result.answered_by_us, True), (result.answered_by_others, False)):
            if answered:
                await self._ledger.write(outcomes.answered, answered, by_us=by_us)
        await self.release(result.releases)
        now_s = self._clock.monotonic_s()
        self._line.add(Cleared(task, at, chain_moves, now_s) for task, at in result.to_answer)


def consequences(
    tasks: Sequence[OpenTask], verdicts: Sequence[Verdict], plan: SubmitPlan, left_s: LeftS
) -> Consequences:
    """Return what follows from the verdicts.

    Args:
        tasks: the claimed tasks.
        verdicts: one per task.
        plan: the pauses.
        left_s: the seconds a task has left behind a block; None: no deadline.
    """
    result = Consequences()
    for task, verdict in zip(tasks, verdicts, strict=True):
        match verdict:
            case NotYet(at):
                result.to_answer.append((task, at))
            case RespondedByUs(event):
                result.answered_by_us.append((task, event))
            case RespondedOtherwise(event):
                result.answered_by_others.append((task, event))
            case WouldRevert(at, reason, park=True):
                pause_s = plan.within_s(plan.retry_max_s, left_s(task.task, at))
                result.releases.append(Release(task, RetryAt(int(pause_s * 1000)), PARKED_MARK + reason))
            case WouldRevert(at, reason):
                result.releases.append(Release(task, RetryAt(0, at.number + 1), reason))
            case _:
                # Too late, orphaned or unclear: the confirm stage decides at finality; nothing is sent.
                result.releases.append(Release(task, RetryAt(int(_UNCLEAR_S * 1000))))
    return result
