"""One AVS in the daemon: opens its ledger, starts its stages in order, watches over them, drains and closes.

Invariants: nothing is sent before the chain has been compared with the ledger; the watchdog is pinged only while every
stage makes steps; on a stop running requests are awaited, and one that cannot be awaited is `sending` in the ledger.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from random import SystemRandom

from loguru import logger

from watcher.chain.rpc.bloom import Interest
from watcher.chain.rpc.pace import Pace
from watcher.chain.source import Source
from watcher.clock import Clock, SystemClock
from watcher.daemon import parts, standby, wiring
from watcher.daemon.announcer import Announcement
from watcher.daemon.hooks import Hooks
from watcher.daemon.jobs import Jobs
from watcher.daemon.ledger_start import LedgerStart
from watcher.daemon.own_ledger import OwnLedger, hold_back, open_own, watch_file
from watcher.daemon.receivers import publication
from watcher.daemon.reload import Reload
from watcher.daemon.replica import Replica
from watcher.daemon.run_options import RunOptions
from watcher.daemon.shared import Shared
from watcher.daemon.startup import Stopped, Waiting, read_chain
from watcher.daemon.supervision import drain, first_to_end, pinger, stuck_after_s, watch_progress
from watcher.daemon.systemd import watchdog_interval_s
from watcher.errors import TryLater
from watcher.health.alerts import Alerts, watcher_name
from watcher.health.monitor import Monitor
from watcher.health.observers import DIRECT
from watcher.health.service import HealthPlan, HealthService, danger_blocks
from watcher.health.status import Status, status_line
from watcher.health.surroundings import Surroundings
from watcher.health.verdict import Health
from watcher.ledger.database_clock import clock_of
from watcher.ledger.journal_range import Transitions
from watcher.ledger.transaction import Tx
from watcher.operator.switch import Switch, Switches
from watcher.settings.model import Settings
from watcher.stage import StageLoop, Wakeups
from watcher.trace import Trace

STAGES = ("watch", "admit", "respond", "submit", "confirm", "recheck", standby.HEAD)


class AvsRun:
    """One run of one AVS, from the lock on its ledger to the end of its stages."""

    def __init__(
        self,
        settings: Settings,
        options: RunOptions,
        shared: Shared,
        announcement: Announcement,
        load: Callable[[], Settings],
    ) -> None:
        """Prepare a run; `run` starts it.

        Args:
            settings: the settings, loaded and checked.
            options: the options of the command.
            shared: the parts of the process that all AVSs share.
            announcement: tells the service manager about this AVS.
            load: loads the settings again for a reload; raises FixConfiguration.

        Raises:
            FixConfiguration: alerts.urls names a service that Apprise does not support.
        """
        self._settings = settings
        self._options = options
        self._load = load
        self._clock: Clock = SystemClock()
        self._announcement = announcement
        self._stopping = asyncio.Event()
        self._hangup = asyncio.Event()
        self._wakeups = Wakeups(STAGES)
        self._waiting = Waiting(self._stopping, announcement)
        self._ledger_start = LedgerStart(settings, self._clock, self._waiting)
        self._pace, self._trace = Pace(), Trace(self._clock.monotonic_s, on=options.trace)
        self._stuck_s = stuck_after_s(settings.chain)
        self._shared = shared
        name = watcher_name(settings.chain.chain_id, settings.task_manager.address, announcement.name)
        self._alerts = Alerts(settings.alerts, name, self._clock, shared.redactor)
        self._hooks = Hooks(settings, options.config, shared.room) if settings.runs_hook else None
        self._replica: Replica | None = None
        self._stages: wiring.Stages | None = None
        self._is_ready = False

    async def run(self, *, is_first_try: bool = True) -> None:
        """Run until `stop`, or, with `until_idle`, until nothing is left to do. The first failure sends an alert.

        Raises:
            FixConfiguration: a setting is wrong.
            TryLater: another daemon holds the ledger, or its file was replaced.
            Halt: the chain broke a promise, such as a final block that changed.
        """
        with ExitStack() as owned:
            try:
                own = await self._ledger_start.lock(owned)
            except Stopped:
                return
            async with AsyncExitStack() as stack:
                stack.callback(self._alerts.close)
                try:
                    await self._start(own, stack)
                except Stopped:
                    return
                except Exception as error:
                    if is_first_try:
                        await self._alerts.report_end(error)
                    raise

    def stop(self) -> None:
        """Take no new work, and end once what is under way has ended."""
        self._stopping.set()
        self._wakeups.wake_all()

    def reload(self) -> None:
        """Take over the settings and the code of the hook as they are now."""
        self._hangup.set()

    async def _start(self, own: OwnLedger, stack: AsyncExitStack) -> None:
        """Build everything in the order it is needed, then run the stages until they end."""
        settings, clock, ledger_start = self._settings, self._clock, self._ledger_start
        switches = await self._switches(stack)
        health = self._health_service(switches)
        nodes = parts.node_pool(
            settings.chain,
            clock,
            health.metrics.rpc.asked,
            lambda: health.left_s(self._pace.block_s),
            self._shared.connections,
        )
        stack.push_async_callback(nodes.close)
        monitor = await stack.enter_async_context(health.running(nodes))
        contract = parts.task_manager(
            settings.task_manager, nodes, settings.chain.max_span_blocks, answers=settings.answers
        )
        if (hooks := self._hooks) is not None:
            await self._waiting.until_answered(lambda: hooks.load(stack, health.observer), "the hook")
        begun = await ledger_start.begun(own)
        start = await read_chain(settings.chain, contract, nodes, clock, begun, self._waiting)
        clock = clock_of(own.url, clock)
        observers = (self._committed, health.observer.committed, health.observer.damaged)
        chain_id, random, release = settings.chain.chain_id, SystemRandom(), self._options.release_held
        ledger = await ledger_start.answered(
            lambda: stack.enter_async_context(
                open_own(own, clock, chain_id, settings.task_manager, begun, start, *observers)
            )
        )
        await ledger_start.answered(lambda: hold_back(own, ledger, start.head.number, random, release=release))
        confirmations = 0 if start.numbering.l1_blocks else settings.chain.confirmations

        def in_danger(window_blocks: int | None) -> int:
            return danger_blocks(settings.alerts.deadline_blocks, window_blocks, confirmations)

        danger = in_danger(start.window_blocks)
        await ledger_start.answered(lambda: stack.enter_async_context(health.recording(ledger, danger)))
        replica = self._replica = await ledger_start.join(own, ledger, self._wakeups, stack)
        await ledger_start.answered(lambda: ledger_start.recover(ledger, has_replicas=replica is not None))
        source = Source(nodes, contract, ledger, clock, start.window_blocks, start.numbering, self._pace, self._trace)
        run_hook = None if hooks is None else hooks.run
        main, direct = (None, None) if switches is None else (switches.main, switches.direct)
        roots = publication(settings, self._alerts, health.metrics.roots)
        share = None if replica is None else lambda: replica.share
        outside = wiring.Outside(run_hook, main, direct, health.observer, roots, share, self._shared.room)
        listeners = wiring.Listeners(
            self._options.progress,
            lambda window: monitor.set_danger_blocks(in_danger(window)),
            health.observer.contradicted,
        )
        self._stages = wiring.build(settings, source, outside, listeners)
        if replica is not None and (submit := self._stages.submit) is not None:
            replica.attach(lambda: submit.running, submit.share_changed)
        if hooks is not None:
            await hooks.shadow(stack, source, health.observer)
        await self._run_stages(self._stages, source, own, switches, monitor)

    async def _switches(self, stack: AsyncExitStack) -> Switches | None:
        """Return the senders to the APIs, None where the process sends nothing. Raises FixConfiguration."""
        operator = self._settings.operator
        if not self._settings.sends:
            return None
        main = Switch(parts.client(operator, self._clock))
        stack.push_async_callback(main.aclose)
        direct = Switch(parts.direct_client(operator, self._clock))
        stack.push_async_callback(direct.aclose)
        return Switches(main, direct)

    def _health_service(self, switches: Switches | None) -> HealthService:
        surroundings = Surroundings(
            apis={} if switches is None else {"": switches.main, DIRECT: switches.direct},
            on_back=self._api_is_back,
            changed_hook_files=None if self._hooks is None else self._hooks.changed_files,
            listeners=(self._alerts.update, self._show_status),
            on_move=(self._report_moves,),
            replica=lambda: None if self._replica is None else self._replica.seen,
            next_attempt_s=self._next_attempt_s,
            name=self._announcement.name,
        )
        sections = self._settings
        contract = sections.task_manager.address
        plan = HealthPlan.of(
            sections.chain,
            sections.operator,
            sections.alerts,
            sections.hook,
            self._stuck_s,
            contract,
            sections.daemon.roles,
        )
        pages = parts.make_pages(self._settings, self._clock, self._announcement.name, self._shared.access)
        return HealthService(plan, self._clock, self._shared.redactor, surroundings, self._shared.sites, pages)

    def _api_is_back(self) -> None:
        if self._stages is not None and self._stages.submit is not None:
            self._stages.submit.make_due()
            self._wakeups.wake("submit")

    def _report_moves(self, transitions: Transitions) -> None:
        """Report incidents of tasks, unless another replica leads, which reports them for all."""
        if self._replica is None or self._replica.leads:
            self._alerts.moved(transitions)

    def _next_attempt_s(self) -> float | None:
        make_router = None if self._stages is None else self._stages.make_router
        return None if make_router is None else make_router.next_attempt_s

    def _show_status(self, health: Health) -> None:
        if self._is_ready:  # before, the service manager shows the part that is waited for
            self._announcement.status(status_line(health))

    def _committed(self, tx: Tx) -> None:
        """Wake the stages that a commit has made work for, here and in the other replicas."""
        self._wakeups.committed(tx)
        if self._replica is not None:
            self._replica.committed(tx)

    async def _run_stages(
        self,
        stages: wiring.Stages,
        source: Source,
        own: OwnLedger,
        switches: Switches | None,
        monitor: Monitor,
    ) -> None:
        """Run stages, jobs and wake-ups until a stop is asked for or one of the stages raises; then drain."""
        status = Status(source.ledger, self._settings.chain.poll_interval_s, self._clock)
        replica = self._replica
        running = stages.stages if replica is None else standby.stages_of(stages, source.nodes, replica)
        loops = [StageLoop(stage, self._wakeups, self._clock, self._stopping) for stage in running]
        # A chain that has changed since the last stop is noticed before anything is sent to it; a replica leaves that
        # to the one that leads.
        if running[0].name == stages.watch.name:
            await self._waiting.until_answered(running[0].step, "the chain")
        jobs = Jobs(stages, self._clock, lambda: replica is None or replica.leads)
        await jobs.compare_at_start()
        jobs.start(pinger(loops, self._clock, self._stuck_s, self._announcement), watchdog_interval_s())
        working = [asyncio.create_task(loop.run(), name=loop.stage.name) for loop in loops]
        guarding = watch_file(own, source.ledger, self._stopping, self._clock)
        working.append(asyncio.create_task(guarding, name="ledger file"))
        if self._shared.several:
            working.append(asyncio.create_task(watch_progress(monitor, self._stopping), name="progress"))
        if replica is not None:
            working.append(asyncio.create_task(replica.guard(self._stopping), name="replica"))
        helping = self._start_helpers(stages, source, switches, jobs)
        if self._options.until_idle:
            idle = status.until_idle(self._stopping, self._wakeups, jobs.repair)
            working.append(asyncio.create_task(idle, name="until idle"))
        monitor.started(loops)
        line = await _line(status)
        self._announcement.ready(line)
        self._is_ready = True
        logger.info("daemon.watching: the stages run", status=line)
        try:
            await first_to_end(working)
        finally:
            self._stopping.set()
            self._wakeups.wake_all()
            jobs.stop()
            for task in helping:
                task.cancel()
            await drain(stages, working, None if replica is None else replica.resign)
            await asyncio.gather(*helping, return_exceptions=True)
            logger.info("daemon.stopped: the stages have ended", status=await _line(status))

    def _start_helpers(
        self, stages: wiring.Stages, source: Source, switches: Switches | None, jobs: Jobs
    ) -> list[asyncio.Task[None]]:
        """Start the wake-ups over WebSocket, the watch over the clock and the reload on SIGHUP."""
        push = wiring.push_to(stages.watch, self._wakeups)
        chain, connections = self._settings.chain, self._shared.connections
        if "watch" not in stages.roles:
            following = []
        elif self._shared.several:
            interest = Interest(source.contract.emitters, source.contract.convention.topics0)
            following = [connections.follow_heads(url, chain.chain_id, interest, push) for url in chain.ws_urls]
        else:
            following = [each.run() for each in parts.subscriptions(chain, source.contract, push, self._clock)]
        reload = Reload(
            self._load,
            self._settings,
            clock=self._clock,
            redactor=self._shared.redactor,
            alerts=self._alerts,
            stages=stages,
            switches=switches,
            hooks=self._hooks,
        )
        helping = [asyncio.create_task(each, name="wake") for each in following]
        helping.append(asyncio.create_task(jobs.watch_clock(), name="clock"))
        helping.append(
            asyncio.create_task(reload.follow(self._hangup, self._wakeups, self._announcement), name="reload")
        )
        return helping


async def _line(status: Status) -> str:
    try:
        return await status.line()
    except TryLater:
        return "the ledger cannot be read now"
