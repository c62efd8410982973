"""How the daemon stands, in one line, and whether there is anything left to do."""

import asyncio
from collections.abc import Awaitable, Callable

from loguru import logger

from watcher.clock import Clock
from watcher.health.verdict import Health
from watcher.ledger import queries
from watcher.ledger.store import Ledger
from watcher.stage import Wakeups

_QUIET_S = 10.0
_EMPTY_S = 1.0
_LOOK_EVERY_S = 0.5


def told(health: Health) -> str:
    """The line systemd shows, from the last judgement, with everything that is wrong. Asks nothing, so cannot hang."""
    work = health.work
    if work is None:
        return "; ".join(health.reasons)
    words = f"block {work.cursor_block}" + (f" ({work.lag_blocks} behind)" if work.lag_blocks else "")
    words += f", {work.open_tasks} open"
    if health.blocks_left is not None:
        words += f", nearest deadline in {health.blocks_left} blocks"
    if health.seconds_left is not None:
        words += f", nearest deadline in {health.seconds_left:.0f} s"
    return "; ".join([words, *health.reasons])


def log_changes(before: Health, now: Health) -> None:
    """Log a line for each condition that began, and one for each that is over."""
    for one in now.conditions:
        if before.condition(one.key) is None:
            logger.warning("{}: {}", one.key, one.words)
    for one in before.conditions:
        if now.condition(one.key) is None:
            logger.info("{}: over, after {:.0f} s", one.key, (now.at_ms - one.since_ms) / 1000)


class Status:
    """Reads the ledger; holds nothing of its own."""

    def __init__(self, ledger: Ledger, poll_interval_s: float, clock: Clock) -> None:
        self._ledger = ledger
        self._poll_interval_s = poll_interval_s
        self._clock = clock

    async def line(self) -> str:
        """One line: how far the chain is read, what is open, and the nearest deadline."""
        cursor = await self._ledger.read(queries.cursor, self._ledger.source_id)
        now = await self._ledger.read(queries.counts, self._ledger.source_id)
        lag = max(0, cursor.head_block - cursor.block)
        words = f"block {cursor.block}" + (f" ({lag} behind)" if lag else "") + f", {now.open_tasks} open"
        if now.nearest_deadline_block is not None:
            words += f", nearest deadline in {now.nearest_deadline_block - cursor.head_closed_block} blocks"
        return words

    async def until_idle(
        self, stopping: asyncio.Event, wakeups: Wakeups, repair: Callable[[], Awaitable[int | None]]
    ) -> None:
        """Set `stopping` once nothing is left to do before the chain moves again.

        That is: the cursor stands at the head, and either no task is open, however fast the chain moves on, or nothing
        in the ledger has changed for a while and no task is leased or due later. `repair` has the last word: the holes
        it finds are work, and None says that it could not look.
        """
        last, quiet_since_s = None, self._clock.monotonic_s()
        empty_since_s: float | None = None
        while not stopping.is_set():
            cursor = await self._ledger.read(queries.cursor, self._ledger.source_id)
            now = await self._ledger.read(queries.counts, self._ledger.source_id)
            bound = await self._ledger.read(queries.bound_by_time, self._ledger.source_id, self._clock.now_ms())
            now_s = self._clock.monotonic_s()
            if (cursor, now) != last or bound:
                last, quiet_since_s = (cursor, now), now_s
            caught_up = cursor.hash is not None and cursor.block >= cursor.head_block
            empty_since_s = None if now.open_tasks else empty_since_s if empty_since_s is not None else now_s
            empty = empty_since_s is not None and now_s - empty_since_s >= _EMPTY_S
            if caught_up and (empty or now_s - quiet_since_s >= self._quiet_s) and await repair() == 0:
                stopping.set()
                wakeups.wake_all()
                return
            await self._clock.sleep(_LOOK_EVERY_S)

    @property
    def _quiet_s(self) -> float:
        return max(_QUIET_S, 3 * self._poll_interval_s)
