"""The status of the daemon in one line, its changes in the log, and the test whether anything is left to do."""

import asyncio
from collections.abc import Awaitable, Callable

from loguru import logger

from watcher.clock import Clock
from watcher.health.readings import ReplicaSeen
from watcher.health.verdict import Health
from watcher.ledger import queries
from watcher.ledger.store import Ledger
from watcher.stage import Wakeups

_QUIET_S = 10.0
_EMPTY_S = 1.0
_CHECK_EVERY_S = 0.5


def status_line(health: Health) -> str:
    """Return the line that systemd shows, with everything that is wrong. Reads no ledger, and so cannot hang."""
    work = health.work
    if work is None:
        return "; ".join(health.reasons)
    replica = "" if health.replica is None else f"{replica_line(health.replica)}; "
    line = f"block {work.cursor_block}" + (f" ({work.lag_blocks} behind)" if work.lag_blocks else "")
    line += f", {work.open_tasks} open"
    if health.blocks_left is not None:
        line += f", nearest deadline in {health.blocks_left} blocks"
    if health.seconds_left is not None:
        line += f", nearest deadline in {health.seconds_left:.0f} s"
    return replica + "; ".join([line, *health.reasons])


def replica_line(replica: ReplicaSeen) -> str:
    """Return the roles of this replica, and who leads."""
    lead = "leads" if replica.leads else f"{replica.leader} leads" if replica.leader else "nobody leads"
    return f"replica {replica.id} of {replica.count} ({', '.join(replica.roles)}), {lead}"


def log_changes(before: Health, now: Health) -> None:
    """Log one line for each condition that begins, and one for each that ends."""
    for condition in now.conditions:
        if before.condition(condition.key) is None:
            logger.warning(
                "health.condition_began: a condition began", condition=condition.key, reason=condition.message
            )
    for condition in before.conditions:
        if now.condition(condition.key) is None:
            lasted_s = round((now.at_ms - condition.since_ms) / 1000)
            logger.info("health.condition_ended: a condition ended", condition=condition.key, lasted_s=lasted_s)


class Status:
    """Questions to the ledger about the work as a whole. Holds nothing of its own."""

    def __init__(self, ledger: Ledger, poll_interval_s: float, clock: Clock) -> None:
        self._ledger = ledger
        self._quiet_s = max(_QUIET_S, 3 * poll_interval_s)
        self._clock = clock

    async def line(self) -> str:
        """Return how far the chain is read, what is open, and the nearest deadline, in one line."""
        cursor = await self._ledger.read(queries.cursor, self._ledger.source_id)
        counts = await self._ledger.read(queries.counts, self._ledger.source_id)
        lag = max(0, cursor.head_block - cursor.block)
        line = f"block {cursor.block}" + (f" ({lag} behind)" if lag else "") + f", {counts.open_tasks} open"
        if counts.nearest_deadline_block is not None:
            line += f", nearest deadline in {counts.nearest_deadline_block - cursor.head_closed_block} blocks"
        return line

    async def until_idle(
        self, stopping: asyncio.Event, wakeups: Wakeups, repair: Callable[[], Awaitable[int | None]]
    ) -> None:
        """Set `stopping` once nothing is left to do before the chain moves again.

        That is: the cursor stands at the head, and either no task is open, however fast the chain moves on, or nothing
        in the ledger has changed for a while and no task is leased or due later.

        Args:
            stopping: the event to set.
            wakeups: the stages to wake, so that they see it.
            repair: asked last; returns how many missing tasks it found, which are work, or None if it could not look.
        """
        last, quiet_since_s = None, self._clock.monotonic_s()
        empty_since_s: float | None = None
        while not stopping.is_set():
            cursor = await self._ledger.read(queries.cursor, self._ledger.source_id)
            counts = await self._ledger.read(queries.counts, self._ledger.source_id)
            bound = await self._ledger.read(queries.bound_by_time, self._ledger.source_id, self._clock.now_ms())
            now_s = self._clock.monotonic_s()
            if (cursor, counts) != last or bound:
                last, quiet_since_s = (cursor, counts), now_s
            caught_up = cursor.hash is not None and cursor.block >= cursor.head_block
            empty_since_s = None if counts.open_tasks else empty_since_s if empty_since_s is not None else now_s
            is_empty = empty_since_s is not None and now_s - empty_since_s >= _EMPTY_S
            is_quiet = now_s - quiet_since_s >= self._quiet_s
            if caught_up and (is_empty or is_quiet) and await repair() == 0:
                stopping.set()
                wakeups.wake_all()
                return
            await self._clock.sleep(_CHECK_EVERY_S)
