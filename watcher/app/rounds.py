"""The periodic jobs: holes are looked for, the contract is read again, the watchdog is fed.

APScheduler runs these and nothing else. Invariant: trouble outside ends no job, and is told once when it begins.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from loguru import logger

from watcher.app.house import House
from watcher.errors import RetryElsewhere, TryLater

T = TypeVar("T")

_EVERY_S = 60
_FIRST_S = 5
_JITTER_S = 5
_START_PATIENCE_S = 20.0


class Rounds:
    """Those of one daemon. `start` them once the stages run, `stop` them before the stages end."""

    def __init__(self, rooms: House) -> None:
        self._rooms = rooms
        self._waiting: set[str] = set()
        self._scheduler = AsyncIOScheduler(
            timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )

    def start(self, feed: Callable[[], None], feed_every_s: float | None) -> None:
        """`feed` the watchdog, at once and then so often; None where nobody waits for that."""
        # The first pass comes soon: a daemon that never lives for a whole interval must repair holes too.
        soon = datetime.now(UTC) + timedelta(seconds=_FIRST_S)
        for job in (self.repair, self.compare):
            self._scheduler.add_job(job, "interval", seconds=_EVERY_S, jitter=_JITTER_S, next_run_time=soon)
        if feed_every_s is not None:
            feed()
            self._scheduler.add_job(feed, "interval", seconds=feed_every_s)
        self._scheduler.start()

    def stop(self) -> None:
        """No job begins any more."""
        self._scheduler.shutdown(wait=False)

    async def first_look(self) -> None:
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
