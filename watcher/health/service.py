"""Health of one AVS, assembled: observer, metrics, monitor and what the HTTP server shows of them.

Invariant: the daemon's work goes on whatever happens here. An exception in here is logged and ends its own task alone.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from loguru import logger

from watcher.chain.rpc.nodes import NodePool
from watcher.clock import Clock
from watcher.health.conditions import (
    API,
    HOOK,
)
from watcher.health.metrics import Metrics
from watcher.health.monitor import Monitor
from watcher.health.observers import Observer
from watcher.health.prober import next_probe_s
from watcher.health.readings import (
    SERVICES,
    Limits,
)
from watcher.health.recorder import PeriodRecorder
from watcher.health.sites import MakePages, Site, Sites
from watcher.health.surroundings import Surroundings
from watcher.ledger.store import Ledger
from watcher.redact import Redactor
from watcher.settings.hook import Hook
from watcher.settings.model import Alerts, Chain
from watcher.settings.operator import Operator

_QUIET_NODE_S = 10.0
_SILENT_HOOK_S = 15.0
# The share of a task's window, after its confirmations, that counts as its last part.
_DANGER_SHARE = 4


@dataclass(frozen=True, slots=True)
class HealthPlan:
    """The settings that health depends on.

    `sends`: this process sends answers to the API; `runs_hook`: it runs the hook. `answers`: it, or another process
    that shares its ledger, answers tasks. `contract`: the chain id and the address of the task manager.
    """

    limits: Limits
    sends: bool = True
    runs_hook: bool = True
    answers: bool = True
    avs_name: str = ""
    contract: tuple[int, str] = (0, "")

    @classmethod
    def of(
        cls,
        chain: Chain,
        operator: Operator,
        alerts: Alerts,
        hook: Hook,
        stuck_s: float,
        task_manager: str,
        roles: Sequence[str],
    ) -> "HealthPlan":
        """Return the plan for these sections.

        Args:
            chain: the section [chain].
            operator: the section [operator].
            alerts: the section [alerts].
            hook: the section [hook].
            stuck_s: the longest time one step of a stage may take.
            task_manager: the address of the task manager.
            roles: the roles of this process.
        """
        limits = Limits(
            quiet_node_s=_QUIET_NODE_S + 2 * chain.poll_interval_s,
            stuck_s=stuck_s,
            danger_s=alerts.deadline_s,
            # Before the limit of a run has passed: a condition that comes with it leaves a person less time.
            silent_hook_s=max(_SILENT_HOOK_S, hook.timeout_s * 2 / 3),
        )
        contract = (chain.chain_id, task_manager)
        answers = operator.api != "none"
        sends, runs_hook = answers and "submit" in roles, answers and "respond" in roles
        return cls(limits, sends, runs_hook, answers, operator.avs_name, contract)

    @property
    def services(self) -> list[str]:
        """The services that this process uses."""
        unused = {API: self.sends, HOOK: self.runs_hook}
        return [name for name in SERVICES if unused.get(name, True)]


class HealthService:
    """One AVS's health. Stages get `observer` and `metrics`; the monitor exists inside `running`."""

    def __init__(
        self,
        plan: HealthPlan,
        clock: Clock,
        redactor: Redactor,
        surroundings: Surroundings,
        sites: Sites,
        make_pages: MakePages | None = None,
    ) -> None:
        """Take the parts.

        Args:
            plan: what is evaluated, and its limits.
            clock: the time.
            redactor: removes secrets from every reason that is kept.
            surroundings: the parts of the daemon that are asked or called.
            sites: the HTTP server, which shows the AVS.
            make_pages: makes the dashboard for it; None: there is none.
        """
        self._plan = plan
        self._clock = clock
        self._surroundings = surroundings
        self._sites = sites
        self._make_pages = make_pages
        self.metrics = Metrics(plan.avs_name, plan.services)
        self.observer = Observer(clock, self.metrics, redactor)
        self._monitor: Monitor | None = None
        self._recorder: PeriodRecorder | None = None

    @asynccontextmanager
    async def running(self, nodes: NodePool) -> AsyncIterator[Monitor]:
        """Evaluate every second, and show that on the HTTP server, inside this block."""
        monitor = self._monitor = Monitor(
            self.observer,
            self.metrics,
            self._clock,
            self._plan.limits,
            nodes,
            self._surroundings,
            sends=self._plan.sends,
            runs_hook=self._plan.runs_hook,
            answers=self._plan.answers,
        )
        self._recorder = PeriodRecorder(monitor, nodes, self._clock)
        tasks = [
            asyncio.create_task(monitor.run(), name="monitor"),
            asyncio.create_task(self._recorder.run(), name="periods"),
        ]
        for task in tasks:
            task.add_done_callback(ended)
        site = self._site(monitor)
        self._sites.attach(site)
        try:
            yield monitor
        finally:
            self._sites.detach(site)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @asynccontextmanager
    async def recording(self, ledger: Ledger, danger_blocks: int) -> AsyncIterator[None]:
        """Measure the ledger, and record in it when conditions held, inside this block; call it within `running`.

        Args:
            ledger: the ledger, open while no stage runs yet.
            danger_blocks: as in Limits.

        Raises:
            TryLater: the ledger cannot be read.
        """
        assert self._monitor is not None, "running comes first"
        assert self._recorder is not None, "running comes first"
        await self._monitor.opened(ledger, danger_blocks)
        self._recorder.opened(ledger)
        try:
            yield
        finally:
            self._monitor.ledger = None  # no page opens a connection that outlives the writer's
            await self._recorder.close()

    def _site(self, monitor: Monitor) -> Site:
        pages = None if self._make_pages is None else self._make_pages(monitor, self._next_probe_s)
        return Site(
            self._surroundings.name,
            monitor,
            self.metrics.registry,
            next_probe_s=self._next_probe_s,
            contract=self._plan.contract,
            pages=pages,
        )

    def _next_probe_s(self) -> float | None:
        around = self._surroundings
        waits_s = (around.next_attempt_s(), next_probe_s(self.observer, around.apis, self._clock))
        return min((wait_s for wait_s in waits_s if wait_s is not None), default=None)

    def left_s(self, block_s: float) -> float | None:
        """Return the seconds to the nearest deadline of an unanswered task, None without one.

        `block_s` is the time between two blocks.
        """
        work = None if self._monitor is None else self._monitor.health.work
        return None if work is None else work.left_s(block_s)


def danger_blocks(limit_blocks: int, window_blocks: int | None, confirmations: int) -> int:
    """Return the number of blocks before its deadline at which an unanswered task is in danger.

    Args:
        limit_blocks: alerts.deadline_blocks.
        window_blocks: the response window, None where the contract has none.
        confirmations: blocks of the window that pass before an answer is sent; 0 where contracts count the parent
            chain's blocks, as confirmations take less than one of those.

    In a window so short that every task would be in danger from the start, the last quarter of the rest counts.
    """
    if window_blocks is None:
        return limit_blocks
    return min(limit_blocks, max(1, (window_blocks - confirmations) // _DANGER_SHARE))


def ended(task: asyncio.Task[None]) -> None:
    """Log the end of a task that has failed, which is a bug."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.opt(exception=error).critical(
            "health.ended: a task of the health service ended; this is a bug, please report it", name=task.get_name()
        )
