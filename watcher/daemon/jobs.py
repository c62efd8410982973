"""The periodic jobs: holes are looked for, the contract is read again, the watchdog is fed.

APScheduler runs these and nothing else. It goes by the wall clock, which may jump. Invariant: trouble outside ends no
job, and is told once when it begins; no jump of the clock keeps a job from its next run.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from random import SystemRandom
from typing import TypeVar

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger
from loguru import logger

from watcher.clock import Clock, ClockStep
from watcher.daemon.wiring import Stages
from watcher.errors import RetryElsewhere, TryLater

T = TypeVar("T")

_EVERY_S = 60
_FIRST_S = 5
_CHECK_EVERY_S = 10
_START_PATIENCE_S = 20.0
_CLOCK_EVERY_S = 1.0
_RANDOM = SystemRandom()


class _Every(BaseTrigger):  # type: ignore[misc]
    """So long after now. The scheduler's own interval counts every run it missed: for a jump of years, for minutes."""

    def __init__(self, seconds: float, jitter_s: float = 0.0) -> None:
        self._seconds, self._jitter_s = seconds, jitter_s

    def get_next_fire_time(self, _last: datetime | None, now: datetime) -> datetime:
        return now + timedelta(seconds=self._seconds + _RANDOM.uniform(-self._jitter_s, self._jitter_s))


class Jobs:
    """Those of one daemon. `start` them once the stages run, `stop` them before the stages end."""

    def __init__(self, rooms: Stages, clock: Clock) -> None:
        self._rooms = rooms
        self._clock = clock
        self._waiting: set[str] = set()
        self._scheduler = AsyncIOScheduler(
            timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )

    def start(self, feed: Callable[[], None], feed_every_s: float | None) -> None:
        """`feed` the watchdog, at once and then so often; None where nobody waits for that."""
        # The first pass comes soon: a daemon that never lives for a whole interval must repair holes too.
        soon = datetime.now(UTC) + timedelta(seconds=_FIRST_S)
        for job, every_s in ((self.repair, _EVERY_S), (self.compare, _EVERY_S), (self.check, _CHECK_EVERY_S)):
            self._scheduler.add_job(job, _Every(every_s, every_s / 12), next_run_time=soon)
        if feed_every_s is not None:
            feed()
            self._scheduler.add_job(feed, _Every(feed_every_s))
        self._scheduler.start()

    async def watch_clock(self) -> None:
        """While the rounds go on: where the clock is set back, their next runs do not wait for the old time."""
        clock_step = ClockStep(self._clock)
        while True:
            await self._clock.sleep(_CLOCK_EVERY_S)
            if back_ms := clock_step.ms():
                logger.warning("the clock was set back by {:.0f} s; nothing waits the longer for it", back_ms / 1000)
                for job in self._scheduler.get_jobs():
                    job.modify(next_run_time=datetime.now(UTC))
                clock_step.taken(back_ms)

    def stop(self) -> None:
        """No job begins any more."""
        self._scheduler.shutdown(wait=False)

    async def compare_at_start(self) -> None:
        """Compare the contract with what it was at the last stop; no stage runs yet, and none waits long for it."""
        try:
            async with asyncio.timeout(_START_PATIENCE_S):
                await self.compare()
        except TimeoutError:
            logger.info("the contract could not be compared with what it was: it takes too long")

    async def repair(self) -> int | None:
        """Look for holes. Returns how many tasks were found, None when no node could say."""
        return await self._tried("the holes could not be looked for now", self._rooms.reconcile.run)

    async def compare(self) -> None:
        """Look whether the contract is still the one it was."""
        await self._tried("the contract could not be compared with what it was now", self._rooms.drift.run)

    async def check(self) -> None:
        """Compare what the contract shows with the convention."""
        await self._tried("the convention could not be compared with the contract now", self._rooms.consistency.run)

    async def _tried(self, what: str, job: Callable[[], Awaitable[T]]) -> T | None:
        try:
            found = await job()
        except (RetryElsewhere, TryLater) as trouble:
            if what not in self._waiting:
                logger.info("{}: {}", what, trouble)
            self._waiting.add(what)
            return None
        self._waiting.discard(what)
        return found
