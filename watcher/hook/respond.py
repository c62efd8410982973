"""The respond stage: ready -> computed, skipped or failed. Run the hook on each task and store its first answer.

Invariant: the answer is in the ledger before anything can send it; a hook's failure on one task costs no other task.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

from loguru import logger

from watcher.backoff import doubled_s, spread_s
from watcher.clock import Clock
from watcher.errors import AttemptFailed, LostLease, TryLater
from watcher.hook.pace import Pace
from watcher.hook.room import Room
from watcher.hook.values import Values, ValueTypes
from watcher.inflight import InFlight
from watcher.ledger import claims, hook_results, queries
from watcher.ledger.arrivals import Arrivals
from watcher.ledger.claims import Release, RetryAt
from watcher.ledger.hook_results import Answered, Unanswered
from watcher.ledger.store import Ledger
from watcher.once import LineBudget, Once
from watcher.state import State
from watcher.task import Later, OpenTask, Response, Skip, Task

RunHook = Callable[[Task], Awaitable[Response | Skip | Later]]

_RETRY_MAX_S = 300.0
# The pause of a task that was released because no worker, or no ledger, could take it.
_UNAVAILABLE_S = 5.0
# Reasons of releases that are logged at WARNING before a hook runs again.
_REASONS_LOGGED = 20
# The most tasks claimed per worker, so that a quick hook never waits for the ledger.
_AHEAD_LIMIT = 32


@dataclass(frozen=True, slots=True)
class RespondPlan:
    """The settings of the respond stage.

    `max_attempts` counts the failed runs of one task; the pause between them begins at `retry_base_s` seconds and
    doubles. With `types`, the log shows the values of messages and answers.
    """

    workers: int
    timeout_s: float
    max_attempts: int
    retry_base_s: float
    idle_s: float
    types: ValueTypes = field(default_factory=ValueTypes)


class Respond:
    """The respond stage: keeps the workers busy, nearest deadline first. `run_hook` is a runner's `run`."""

    name = "respond"

    def __init__(
        self,
        run_hook: RunHook,
        ledger: Ledger,
        clock: Clock,
        random: Random,
        plan: RespondPlan,
        room: Room | None = None,
    ) -> None:
        """Take the parts; `room` is the one that the hook shares with those of other AVSs, None if it shares none."""
        self._run_hook = run_hook
        self._ledger = ledger
        self._clock = clock
        self._random = random
        self._plan = plan
        self._room = room
        self._values = Values(plan.types)
        self._answered = LineBudget(clock.monotonic_s)
        self._unavailable = Once(_REASONS_LOGGED)
        self._skipped = LineBudget(clock.monotonic_s)
        self._more_skipped = Once()
        self._workers = plan.workers
        self._in_flight = InFlight(plan.workers * _AHEAD_LIMIT)
        self._arrivals = Arrivals(ledger, clock, [State.READY])
        self._pace = Pace()

    async def step(self) -> float:
        """Claim as many tasks as there is room for and start the hook on them. Return the seconds to the next step."""
        arrived = await self._arrivals.take()
        self._start(arrived.tasks)
        ahead = min(_AHEAD_LIMIT, self._pace.ahead)
        unused = self._workers * (_AHEAD_LIMIT - ahead)
        room = self._in_flight.room - unused
        # Claim at least half of what fits: claims one by one would keep the ledger busy instead of the workers.
        least = max(1, self._workers * ahead // 2)
        if room < least:
            await self._in_flight.wait_for_room(self._plan.idle_s, unused + least)
            return 0
        longest_s = self._plan.timeout_s * (ahead + 1) if self._room is None else self._room.longest_s(ahead + 1)
        lease_ms = int((longest_s + 60) * 1000)
        rest_s = arrived.rest_s
        if not rest_s:
            claimed = await self._ledger.write(
                claims.claim, self._ledger.source_id, [State.READY], room, lease_ms, self._ledger.held_to_block
            )
            self._start(claimed)
            if len(claimed) == room:
                return 0
            room -= len(claimed)
            now_ms, source_id = self._clock.now_ms(), self._ledger.source_id
            rest_s = await self._ledger.read(queries.rest_s, source_id, [State.READY], now_ms, self._plan.idle_s)
        self._arrivals.expect(room, lease_ms, rest_s)
        return rest_s

    def _start(self, claimed: Sequence[OpenTask]) -> None:
        for open_task in claimed:
            self._in_flight.start(self._answer(open_task), f"hook {open_task.task.task_index}")

    def follow(self, plan: RespondPlan) -> None:
        """Use new settings for the next attempts; the number of concurrent runs stays."""
        self._plan = plan
        self._values = Values(plan.types)

    async def drain(self) -> None:
        """Wait for the running hooks; claim nothing more."""
        unstarted = [Release(task, RetryAt()) for task in (await self._arrivals.take()).tasks]
        if unstarted:
            with suppress(TryLater):  # no lease outlives the process
                await self._ledger.write(claims.release_each, unstarted)
        await self._in_flight.drain()

    async def _answer(self, open_task: OpenTask) -> None:
        try:
            if open_task.response is not None:
                await self._ledger.write_item(hook_results.keep_old_answers, open_task)
            else:
                await self._ask_hook(open_task)
            self._unavailable.forget()
        except LostLease as error:
            logger.info(
                "response.dropped: the hook's answer is not stored, because the task has changed",
                task=open_task.task.task_index,
                reason=str(error),
            )
        except TryLater as error:
            self._log_unavailable(open_task.task, str(error))
            await self._release(open_task, str(error))

    async def _ask_hook(self, open_task: OpenTask) -> None:
        began_s = self._clock.monotonic_s()
        try:
            verdict = await self._run_hook(open_task.task)
        except AttemptFailed as error:
            duration_ms = self._since_ms(began_s)
            self._pace.add(duration_ms * 1000)
            await self._failed(open_task, str(error), duration_ms)
            return
        self._in_flight.release_slot()  # The worker is idle; the ledger write must keep no other task waiting.
        duration_ms = self._since_ms(began_s)
        match verdict:
            case Response():
                self._pace.add(verdict.duration_ms * 1000)
                await self._ledger.write_item(hook_results.keep_answers, Answered(open_task, verdict))
            case Skip(reason):
                self._pace.add(duration_ms * 1000)
                await self._ledger.write_item(hook_results.skip, Unanswered(open_task, reason, duration_ms))
            case Later(reason=reason):
                self._pace.add(duration_ms * 1000)
                retry_at = await self._retry_at(verdict)
                item = Unanswered(open_task, reason, duration_ms, retry_at)
                await self._ledger.write_item(hook_results.postpone, item)
        self._log_verdict(open_task.task, verdict)

    async def _failed(self, open_task: OpenTask, reason: str, duration_ms: int) -> None:
        attempt, index = open_task.hook_attempts + 1, open_task.task.task_index
        retry_at = None
        if attempt < self._plan.max_attempts:
            pause_s = doubled_s(attempt, self._plan.retry_base_s, _RETRY_MAX_S)
            retry_at = RetryAt(after_ms=int(spread_s(pause_s, self._random.random) * 1000))
        logger.warning(
            "hook.failed: the hook gave no answer",
            task=index,
            attempt=attempt,
            max_attempts=self._plan.max_attempts,
            reason=reason,
            **self._values_of(open_task.task),
        )
        verb = hook_results.give_up_failed if retry_at is None else hook_results.retry_failed
        await self._ledger.write_item(verb, Unanswered(open_task, reason, duration_ms, retry_at))
        if retry_at is None:
            logger.error(
                "task.failed: the hook failed in every attempt; correct it, reload it (SIGHUP), then run "
                "`watcher tasks retry`",
                task=index,
                attempts=attempt,
            )

    async def _retry_at(self, later: Later) -> RetryAt:
        cursor = await self._ledger.read(queries.cursor, self._ledger.source_id)
        at_block = cursor.head_block + later.blocks if later.blocks else 0
        return RetryAt(after_ms=int(later.seconds * 1000), at_block=at_block)

    async def _release(self, open_task: OpenTask, reason: str) -> None:
        """Release a task as soon as the ledger takes writes: the lease of a slow hook would keep it for long."""
        retry_at = RetryAt(after_ms=int(_UNAVAILABLE_S * 1000))
        while True:
            try:
                await self._ledger.write_item(claims.release_each, Release(open_task, retry_at, reason))
            except LostLease:
                return
            except TryLater:
                await self._clock.sleep(_UNAVAILABLE_S)
            else:
                return

    def _log_unavailable(self, task: Task, reason: str) -> None:
        """Log why a task is released: at WARNING once per reason, then at DEBUG until a hook runs again."""
        level = "WARNING" if self._unavailable.begins(reason) else "DEBUG"
        logger.log(level, "hook.unavailable: the hook cannot run now; tasks wait", task=task.task_index, reason=reason)

    def _since_ms(self, began_s: float) -> int:
        return round((self._clock.monotonic_s() - began_s) * 1000)

    def _log_verdict(self, task: Task, verdict: Response | Skip | Later) -> None:
        """Log a stored verdict. Answers are DEBUG, because `task.sent` follows; with their values they are INFO."""
        index = task.task_index
        match verdict:
            case Response(answer, version, duration_ms):
                values = self._values_of(task, answer)
                logger.log(
                    "INFO" if values and self._answered.take() else "DEBUG",
                    "task.computed: the hook's answer is stored",
                    task=index,
                    **values,
                    answer_bytes=len(answer),
                    hook_version=version,
                    duration_ms=duration_ms,
                )
            case Skip(reason):
                self._log_skipped(index, reason)
            case Later(blocks, seconds, reason):
                logger.debug(
                    "task.postponed: the hook asks for the task again later",
                    task=index,
                    blocks=blocks,
                    seconds=seconds,
                    reason=reason,
                )

    def _values_of(self, task: Task, answer: bytes | None = None) -> dict[str, str]:
        """Return the values of a task's message, and of an answer, as fields of a log line; none without types."""
        if not self._values.are_typed:
            return {}
        texts = {"message": self._values.message_text(task)}
        if answer is not None:
            texts["answer"] = self._values.answer_text(answer)
        return {name: text for name, text in texts.items() if text}

    def _log_skipped(self, index: int, reason: str) -> None:
        """Log a skipped task. Those beyond the budget are DEBUG, with one INFO line for all."""
        within = self._skipped.take() > 0
        logger.log("INFO" if within else "DEBUG", "task.skipped: the hook skips the task", task=index, reason=reason)
        if within:
            self._more_skipped.ends()
        elif self._more_skipped.begins():
            logger.info("task.skipped_more: the hook skips many tasks; further ones are logged at DEBUG")
