"""The recorder of availability: which conditions held when, and when the watcher ran at all, for the ledger.

Invariant: recording never delays the evaluation; what the ledger does not take now is kept, within a limit, and
written later.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from loguru import logger

from watcher.chain.rpc.nodes import NodePool
from watcher.clock import Clock
from watcher.errors import TryLater
from watcher.health.monitor import Monitor
from watcher.ledger.periods import NODE_PREFIX, RUNNING, Period, keep_periods
from watcher.ledger.store import Ledger

_LOOK_EVERY_S = 1.0
_WRITE_EVERY_MS = 60_000
# A condition that is back within so long has not ended.
_CALM_MS = 10_000
# Without a look for so long (a suspended machine, a stuck process) nobody knows what held.
_BLIND_MS = 30_000
# So that the oldest days can leave the ledger while a daemon runs for a year.
_ROLL_MS = 86_400_000
_UNWRITTEN_LIMIT = 2000
_LAST_WRITE_S = 5.0


class PeriodRecorder:
    """The periods that last, and those that the ledger does not hold yet."""

    def __init__(self, monitor: Monitor, nodes: NodePool, clock: Clock) -> None:
        self._monitor = monitor
        self._nodes = nodes
        self._clock = clock
        self._lasting: dict[str, Period] = {}
        self._unwritten: dict[tuple[str, int], Period] = {}
        self._row_ids: dict[tuple[str, int], int] = {}
        self._looked_ms: int | None = None
        self._written_ms = clock.now_ms()
        self._ledger: Ledger | None = None
        self._is_news = False

    def opened(self, ledger: Ledger) -> None:
        """Use the ledger, which is open now."""
        self._ledger = ledger

    async def run(self) -> None:
        """Look every second, and write what is new, until cancelled."""
        while True:
            self.observe()
            if self._is_news or self._clock.now_ms() - self._written_ms >= _WRITE_EVERY_MS:
                await self.write()
            await self._clock.sleep(_LOOK_EVERY_S)

    async def close(self) -> None:
        """Write the end of what lasts, before the ledger is closed."""
        self.observe()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WRITE_S):
                await self.write()
        self._ledger = None

    def observe(self) -> None:
        """Extend the periods by what holds now; end those of what does not."""
        now_ms = self._clock.now_ms()
        if self._looked_ms is not None and not 0 <= now_ms - self._looked_ms <= _BLIND_MS:
            self._end(list(self._lasting))  # where each was last seen
        self._looked_ms = now_ms
        present = dict(self._present())
        for key, message in present.items():
            period = self._lasting.get(key)
            if period is None:
                self._begin(Period(key, now_ms, now_ms, message))
            else:
                self._lasting[key] = replace(period, last_ms=now_ms, message=message)
        self._end(
            [key for key, period in self._lasting.items() if now_ms - period.last_ms > _CALM_MS and key not in present]
        )
        running = self._lasting[RUNNING]
        if now_ms - running.began_ms >= _ROLL_MS:
            self._end([RUNNING])
            self._begin(Period(RUNNING, now_ms, now_ms))

    def _present(self) -> Iterator[tuple[str, str]]:
        yield RUNNING, ""
        for condition in self._monitor.health.conditions:
            yield condition.key, condition.message
        for node in self._nodes.seen:
            if node.reason is not None:
                yield NODE_PREFIX + node.name, node.reason

    def _begin(self, period: Period) -> None:
        self._lasting[period.key] = period
        self._unwritten[period.key, period.began_ms] = period
        self._is_news = True

    def _end(self, keys: list[str]) -> None:
        for key in keys:
            period = self._lasting.pop(key)
            self._unwritten[key, period.began_ms] = period
            self._is_news = True

    async def write(self) -> None:
        """Write what has begun, ended or gone on. What the ledger does not take is kept for the next time."""
        if self._ledger is None:
            return
        self._unwritten.update({(key, period.began_ms): period for key, period in self._lasting.items()})
        while len(self._unwritten) > _UNWRITTEN_LIMIT:
            del self._unwritten[next(iter(self._unwritten))]
        written = self._unwritten
        self._unwritten, self._is_news, self._written_ms = {}, False, self._clock.now_ms()
        rows = [replace(period, row_id=self._row_ids.get(place)) for place, period in written.items()]
        try:
            stored = await self._ledger.write(keep_periods, self._ledger.source_id, rows)
        except TryLater as condition:
            logger.debug("health.periods_unwritten: the periods will be written later", reason=str(condition))
            self._unwritten = written | self._unwritten
            return
        lasting = {(key, period.began_ms) for key, period in self._lasting.items()}
        ids = {(period.key, period.began_ms): period.row_id for period in stored if period.row_id is not None}
        self._row_ids = {place: id_ for place, id_ in ids.items() if place in lasting or place in self._unwritten}
