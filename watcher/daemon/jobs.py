"""The periodic jobs: search for holes, comparison with the contract, block times and senders, ping of the watchdog.

APScheduler runs these and nothing else. It goes by the wall clock, which may step. Invariant: an error outside ends no
job, and is logged once when it begins; no step of the clock keeps a job from its next run.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from random import SystemRandom
from typing import TypeVar

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger
from loguru import logger

from watcher.clock import Clock, ClockStep
from watcher.daemon.wiring import Stages
from watcher.errors import NotLeading, RetryElsewhere, TryLater
from watcher.once import Once

T = TypeVar("T")

_EVERY_S = 60
_FIRST_S = 5
_CHECK_EVERY_S = 10
_FILL_EVERY_S = 15
_AUDIT_EVERY_S = 20
_START_PATIENCE_S = 20.0
_CLOCK_EVERY_S = 1.0
_RANDOM = SystemRandom()


class _Every(BaseTrigger):  # type: ignore[misc]
    """A fixed pause after now. APScheduler's interval counts every missed run: after a step of years, for minutes."""

    def __init__(self, seconds: float, jitter_s: float = 0.0) -> None:
        self._seconds, self._jitter_s = seconds, jitter_s

    def get_next_fire_time(self, _last: datetime | None, now: datetime) -> datetime:
        return now + timedelta(seconds=self._seconds + _RANDOM.uniform(-self._jitter_s, self._jitter_s))


async def _until_stop(job: Callable[[], Awaitable[object]]) -> None:
    """Run a job. One that `Jobs.stop` cancels has not failed, and APScheduler would log it with a traceback."""
    with contextlib.suppress(asyncio.CancelledError):
        await job()


class Jobs:
    """The jobs of one daemon. `start` them once the stages run, `stop` them before the stages end."""

    def __init__(self, stages: Stages, clock: Clock, is_mine: Callable[[], bool] = lambda: True) -> None:
        """`is_mine` returns False while another replica does them."""
        self._stages = stages
        self._is_mine = is_mine
        self._clock = clock
        self._failing = Once()
        self._scheduler = AsyncIOScheduler(
            timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )

    def start(self, ping: Callable[[], None], ping_every_s: float | None) -> None:
        """Start the jobs; `ping` the watchdog now and every `ping_every_s` seconds, None: there is no watchdog."""
        # The first run comes soon: a daemon that never lives for a whole interval must repair holes too.
        soon = datetime.now(UTC) + timedelta(seconds=_FIRST_S)
        for job, every_s in (
            (self.repair, _EVERY_S),
            (self.compare, _EVERY_S),
            (self.check, _CHECK_EVERY_S),
            (self.fill, _FILL_EVERY_S),
            (self.audit, _AUDIT_EVERY_S),
        ):
            self._scheduler.add_job(_until_stop, _Every(every_s, every_s / 12), [job], next_run_time=soon)
        if ping_every_s is not None:
            ping()
            self._scheduler.add_job(ping, _Every(ping_every_s))
        self._scheduler.start()

    async def watch_clock(self) -> None:
        """Make every job due when the system clock steps back, until cancelled."""
        clock_step = ClockStep(self._clock)
        while True:
            await self._clock.sleep(_CLOCK_EVERY_S)
            if back_ms := clock_step.ms():
                logger.warning(
                    "daemon.clock_step: the system clock stepped back; pending timers are adjusted",
                    back_s=round(back_ms / 1000),
                )
                for job in self._scheduler.get_jobs():
                    job.modify(next_run_time=datetime.now(UTC))
                clock_step.taken(back_ms)

    def stop(self) -> None:
        """Start no more runs."""
        self._scheduler.shutdown(wait=False)

    async def compare_at_start(self) -> None:
        """Compare the contract with its last known state before any stage runs, for 20 s at most."""
        try:
            async with asyncio.timeout(_START_PATIENCE_S):
                await self.compare()
        except TimeoutError:
            logger.info("daemon.compare_slow: the comparison with the contract takes too long; the stages start")

    async def repair(self) -> int | None:
        """Search for holes. Return the number of tasks found, None if no node answered; 0 where it is not our job."""
        return await self._try("reconcile", self._stages.reconcile.run) if self._is_mine() else 0

    async def compare(self) -> None:
        """Compare the contract with its last known state."""
        await self._try("drift", self._stages.drift.run)

    async def check(self) -> None:
        """Compare the contract with the convention."""
        await self._try("consistency", self._stages.consistency.run)

    async def fill(self) -> None:
        """Ask for the block times and the senders that no log has shown."""
        await self._try("backfill", self._stages.backfill.run)

    async def audit(self) -> None:
        """Keep the audit chain."""
        await self._try("audit", self._stages.auditing.run)

    async def _try(self, name: str, job: Callable[[], Awaitable[T]]) -> T | None:
        if not self._is_mine():
            return None
        try:
            result = await job()
        except NotLeading:
            return None
        except (RetryElsewhere, TryLater) as error:
            if self._failing.begins(name):
                logger.info("daemon.job_failed: a periodic job failed and is retried", job=name, reason=str(error))
            return None
        self._failing.ends(name)
        return result
