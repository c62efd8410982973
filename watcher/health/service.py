"""Everything that watches a daemon without taking part in its work: witness, monitor, metrics, web server.

Invariant: the work goes on whatever happens here. What fails in here is logged and its task ends; nothing else does.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from loguru import logger

from watcher.chain.rpc.nodes import NodePool
from watcher.clock import Clock
from watcher.health.http import Web
from watcher.health.metrics import Metrics
from watcher.health.monitor import Monitor
from watcher.health.observers import Observer
from watcher.health.readings import API, DESCRIPTIONS, HOOK, Limits
from watcher.settings.model import Settings
from watcher.text import Redactor

_QUIET_NODE_S = 10.0
_SILENT_HOOK_S = 15.0
# The share of a task's window, behind its confirmations, that counts as the last part of it. Where contracts count
# the parent chain's blocks, confirmations take less than one of those.
_DANGER_SHARE = 4


class HealthService:
    """One daemon's. `observer` and `metrics` are handed to its parts, `monitor` is there while it `runs`."""

    monitor: Monitor

    def __init__(self, settings: Settings, clock: Clock, stuck_s: float) -> None:
        self._settings = settings
        self._clock = clock
        self.l1_blocks = False  # contracts count the parent chain's blocks: whoever finds that out says so
        observing = settings.operator.api == "none"
        services = [one for one in DESCRIPTIONS if not (observing and one in (API, HOOK))]
        self.metrics = Metrics(settings.operator.avs_name, services)
        self.observer = Observer(clock, self.metrics, Redactor(settings.secrets()))
        self._limits = Limits(
            quiet_node_s=_QUIET_NODE_S + 2 * settings.chain.poll_interval_s,
            stuck_s=stuck_s,
            # Before the limit of a run has passed: told when it has, half a minute is lost to somebody who could help.
            danger_s=settings.alerts.deadline_s,
            silent_hook_s=max(_SILENT_HOOK_S, settings.hook.timeout_s * 2 / 3),
        )

    @asynccontextmanager
    async def running(self, nodes: NodePool) -> AsyncIterator[Monitor]:
        """Watch, and serve on [http] listen, inside this block."""
        self.monitor = Monitor(self.observer, self.metrics, self._clock, self._limits, nodes)
        self.monitor.observing = self._settings.operator.api == "none"
        tasks = [asyncio.create_task(self.monitor.run(), name="monitor")]
        if (address := self._settings.http.address) is not None:
            web = Web(address, self.monitor, self.metrics.registry, self._clock)
            tasks.append(asyncio.create_task(web.run(), name="web"))
        for task in tasks:
            task.add_done_callback(_ended)
        try:
            yield self.monitor
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def left_s(self, block_s: float) -> float | None:
        """Return the seconds to the nearest deadline of an unanswered task, where a block comes every `block_s`."""
        work = self.monitor.health.work
        return None if work is None else work.left_s(block_s)

    def window_changed(self, window_blocks: int | None) -> None:
        """The contract gives tasks another window from now on."""
        self.monitor.endangers(self.danger_blocks(window_blocks))

    def danger_blocks(self, window_blocks: int | None) -> int:
        """With no more blocks left than this, an unanswered task is in danger.

        In a window so short that every task would be from the start, it is the last part of what the window leaves us.
        """
        if window_blocks is None:
            return self._settings.alerts.deadline_blocks
        ours = window_blocks - (0 if self.l1_blocks else self._settings.chain.confirmations)
        return min(self._settings.alerts.deadline_blocks, max(1, ours // _DANGER_SHARE))


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.opt(exception=error).critical("{} has ended; this is a bug, please report it", task.get_name())
