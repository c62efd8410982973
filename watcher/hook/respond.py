"""Stage: ready -> computed. Run the hook on each task and write its first answer down.

Invariant: the answer is in the ledger before anything can send it; what the hook does to one task costs no other.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

from loguru import logger

from watcher.backoff import doubled_s, spread_s
from watcher.clock import Clock
from watcher.errors import AttemptFailed, LostLease, TryLater
from watcher.inflight import InFlight
from watcher.ledger import claims, hook_results, queries
from watcher.ledger.claims import RetryAt
from watcher.ledger.store import Ledger
from watcher.state import State
from watcher.task import Later, OpenTask, Response, Skip, Task

RunHook = Callable[[Task], Awaitable[Response | Skip | Later]]

_RETRY_MAX_S = 300.0
_OUT_OF_ORDER_S = 5.0
# Claimed ahead per worker, so that a fast hook never waits for the ledger.
_AHEAD = 8


@dataclass(frozen=True, slots=True)
class RespondPlan:
    """How to run the hook. `max_attempts` counts failures of one task; `retry_base_s` doubles with each."""

    workers: int
    timeout_s: float
    max_attempts: int
    retry_base_s: float
    idle_s: float


class Respond:
    """Keeps the workers busy with the tasks nearest to their deadline. `run_hook` is the crew's `run`."""

    name = "respond"

    def __init__(self, run_hook: RunHook, ledger: Ledger, clock: Clock, random: Random, plan: RespondPlan) -> None:
        self._run_hook = run_hook
        self._ledger = ledger
        self._clock = clock
        self._random = random
        self._plan = plan
        self._in_flight = InFlight(plan.workers * _AHEAD)
        # Half of what is claimed keeps the workers busy; claiming one by one would keep the ledger busy instead.
        self._least_room = plan.workers * _AHEAD // 2

    async def step(self) -> float:
        """Claim what there is room for and start the hook on it. Returns the seconds until the next look."""
        room = self._in_flight.room
        if room < self._least_room:
            await self._in_flight.wait_for_room(self._plan.idle_s, self._least_room)
            return 0
        lease_ms = int((self._plan.timeout_s * (_AHEAD + 1) + 60) * 1000)
        held = await self._ledger.write(
            claims.claim, self._ledger.source_id, [State.READY], room, lease_ms, self._ledger.held_to_block
        )
        for one in held:
            self._in_flight.start(self._answer(one), f"hook {one.task.task_index}")
        if len(held) == room:
            return 0
        now_ms = self._clock.now_ms()
        return await self._ledger.read(queries.rest_s, self._ledger.source_id, [State.READY], now_ms, self._plan.idle_s)

    def follow(self, plan: RespondPlan) -> None:
        """Take new numbers for the attempts that begin from now on. How many run at once stays."""
        self._plan = plan

    async def drain(self) -> None:
        """Let the running hooks finish; nothing is claimed any more."""
        await self._in_flight.drain()

    async def _answer(self, held: OpenTask) -> None:
        try:
            if held.response is not None:
                await self._ledger.write(hook_results.keep_old_answer, held)
            else:
                await self._ask_hook(held)
        except LostLease as lost:
            logger.bind(task=held.task.task_index).info("the hook's answer was dropped: {}", lost)
        except TryLater as trouble:
            logger.bind(task=held.task.task_index).warning("{}", trouble)
            await self._give_back(held, str(trouble))

    async def _ask_hook(self, held: OpenTask) -> None:
        began_s = self._clock.monotonic_s()
        try:
            verdict = await self._run_hook(held.task)
        except AttemptFailed as failure:
            await self._failed(held, str(failure), self._since_ms(began_s))
            return
        self._in_flight.release_slot()  # the worker is free; writing its answer down keeps nobody waiting
        match verdict:
            case Response():
                await self._ledger.write(hook_results.keep_answer, held, verdict)
            case Skip(reason):
                await self._ledger.write(hook_results.hook_skipped, held, reason, self._since_ms(began_s))
            case Later():
                await self._ledger.write(
                    hook_results.postpone, held, verdict, await self._after(verdict), self._since_ms(began_s)
                )

    async def _failed(self, held: OpenTask, words: str, duration_ms: int) -> None:
        burnt = held.hook_attempts + 1
        again = None
        if burnt < self._plan.max_attempts:
            pause_s = doubled_s(burnt, self._plan.retry_base_s, _RETRY_MAX_S)
            again = RetryAt(after_ms=int(spread_s(pause_s, self._random.random) * 1000))
        log = logger.bind(task=held.task.task_index)
        log.warning("the hook failed ({} of {} attempts): {}", burnt, self._plan.max_attempts, words)
        await self._ledger.write(hook_results.hook_failed, held, words, duration_ms, again)
        if again is None:
            log.error(
                "given up after {} attempts; correct the hook, reload it (SIGHUP), then `watcher tasks retry`", burnt
            )

    async def _after(self, later: Later) -> RetryAt:
        cursor = await self._ledger.read(queries.cursor, self._ledger.source_id)
        at_block = cursor.head_block + later.blocks if later.blocks else 0
        return RetryAt(after_ms=int(later.seconds * 1000), at_block=at_block)

    async def _give_back(self, held: OpenTask, words: str) -> None:
        """As soon as the ledger takes it: the lease of a slow hook would keep the task for long after."""
        again = RetryAt(after_ms=int(_OUT_OF_ORDER_S * 1000))
        while True:
            try:
                await self._ledger.write(claims.release, held, again, words)
            except LostLease:
                return
            except TryLater:
                await self._clock.sleep(_OUT_OF_ORDER_S)
            else:
                return

    def _since_ms(self, began_s: float) -> int:
        return round((self._clock.monotonic_s() - began_s) * 1000)
