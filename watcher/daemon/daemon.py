"""The daemon: opens the ledger, starts the stages in order, watches over them, drains and closes.

Invariants: nothing is sent before the chain has been compared with the ledger; the watchdog is fed only while every
stage comes round; on SIGTERM what is on its way is awaited, and what cannot be awaited is `sending` in the ledger.
"""

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path
from random import SystemRandom
from typing import Any

from loguru import logger

from watcher.chain.contract import TaskManager, genesis_hash
from watcher.chain.convention.view import NoSuchView
from watcher.chain.numbering import settle
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.pace import Pace
from watcher.chain.rpc.subscription import Subscription
from watcher.clock import Clock, SystemClock
from watcher.daemon import wiring
from watcher.daemon.jobs import Jobs
from watcher.daemon.own_ledger import OwnLedger, hold_back, open_own, own_ledger, watch_file
from watcher.daemon.reload import Reload, Switches
from watcher.daemon.systemd import Notifier, watchdog_interval_s
from watcher.errors import FixConfiguration, RetryElsewhere, TryLater
from watcher.health.alerts import Alerts
from watcher.health.service import HealthService
from watcher.health.status import Status, told
from watcher.hook.pool import WorkerPool
from watcher.ledger import claims, queries
from watcher.ledger.engine import parse_url
from watcher.ledger.store import Ledger, Reader
from watcher.settings.model import Settings
from watcher.stage import StageLoop, Wakeups

_DRAIN_S = 25.0
_STAGES = ("watch", "admit", "respond", "submit", "confirm", "recheck")
Progress = Callable[[int, int], None]


class Daemon:
    """One run of `watcher run`. `progress(block, head)` follows the cursor."""

    def __init__(
        self,
        settings: Settings,
        *,
        until_idle: bool = False,
        release_held: bool = False,
        progress: Progress = lambda _block, _head: None,
        load: Callable[[], Settings] | None = None,
        config: Path | None = None,
    ) -> None:
        """`load` reads the settings again on SIGHUP; None keeps them as they are. `config` is hidden from the hook.

        `release_held`: answer what a restored ledger holds back.
        """
        self._release_held = release_held
        self._settings = settings
        self._load = load or (lambda: settings)
        self._config = config
        self._until_idle = until_idle
        self._progress = progress
        self._clock: Clock = SystemClock()
        self._notify = Notifier.from_environment()
        self._stopping = asyncio.Event()
        self._wakeups = Wakeups(_STAGES)
        self._hangup = asyncio.Event()
        self._alerts = Alerts(settings, self._clock)
        self._instruments = HealthService(settings, self._clock, self._stuck_after_s)

    async def run(self) -> None:
        """Run until SIGTERM, SIGINT, or, with `until_idle`, until nothing is left that could be done.

        Raises FixConfiguration (78), TryLater (75: another daemon holds the ledger), Halt (1).
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        if sys.stderr.isatty():  # then it says that the terminal is gone
            loop.add_signal_handler(signal.SIGHUP, self._stop, signal.SIGHUP)
        else:
            loop.add_signal_handler(signal.SIGHUP, self._hangup.set)
        url = parse_url(self._settings.ledger.url)
        with own_ledger(url) as own:
            async with AsyncExitStack() as stack:
                nodes = wiring.endpoints(self._settings, self._clock, self._instruments.metrics.asked)
                stack.push_async_callback(nodes.close)
                stack.callback(self._alerts.close)
                monitor = await stack.enter_async_context(self._instruments.running(nodes))
                monitor.listeners.append(self._alerts.hear)
                monitor.on_move.append(self._alerts.moved)
                try:
                    await self._serve(nodes, stack, own)
                except Exception as error:
                    await self._alerts.last_words(error)
                    raise

    def _stop(self, number: int) -> None:
        logger.info("{}: finishing what is on its way", signal.Signals(number).name)
        self._notify.stopping("draining")
        self._stopping.set()
        self._wakeups.wake_all()

    async def _serve(self, nodes: NodePool, stack: AsyncExitStack, own: OwnLedger) -> None:
        contract = wiring.task_manager(self._settings, nodes)
        pool = run_hook = sender = direct = switches = None
        if self._settings.operator.api != "none":
            pool = await self._patiently(lambda: self._load_hook(stack), "the hook")
            if pool is None:
                return
            run_hook = self._instruments.observer.hooked(pool.run)
            switches = Switches(self._settings, self._clock)
            stack.push_async_callback(switches.aclose)
            sender, direct = switches.watched(self._instruments.observer)
            self._instruments.monitor.prober.apis = switches.by_name
        head = await self._patiently(nodes.head, "the chain")
        if head is None:
            return
        counted = self._settings.chain.contract_blocks
        numbering = await self._patiently(lambda: settle(nodes, self._clock, counted), "the chain")
        if numbering is None:
            return
        self._instruments.l1_blocks = numbering.l1_blocks
        found = await self._patiently(lambda: self._window(contract, nodes), "the contract")
        if found is None:
            return
        (window,) = found
        begun = self._beginning()
        genesis = await self._patiently(lambda: genesis_hash(nodes, begun), "the chain")
        observers = (self._wakeups.committed, self._instruments.observer.committed)
        opened = open_own(own, self._settings, self._clock, begun, numbering.read(head), genesis, *observers)
        ledger = await stack.enter_async_context(opened)
        await hold_back(own, ledger, head.number, SystemRandom(), release=self._release_held)
        await self._instruments.monitor.opened(ledger, self._instruments.danger_blocks(window))
        patience = self._settings.operator.resolve_after_blocks
        rescued = await ledger.write(claims.recover_stale, ledger.source_id, all_of_them=True, patience_blocks=patience)
        if rescued:
            logger.warning(
                "{} attempts were cut off by the last stop; the chain will tell what became of them", rescued
            )
        pace = Pace()
        nodes.left_s = lambda: self._instruments.left_s(pace.block_s)
        rooms = wiring.build(
            self._settings,
            nodes,
            contract,
            ledger,
            self._clock,
            window,
            run_hook,
            sender,
            self._progress,
            direct,
            numbering,
            pace,
        )
        reload = Reload(self._load, self._settings, rooms, switches, self._alerts, self._clock, pool)
        await self._run_stages(rooms, own, ledger, nodes, reload)

    async def _load_hook(self, stack: AsyncExitStack) -> WorkerPool:
        """Raises FixConfiguration for a hook that is wrong, TryLater for a reason that may pass."""
        observer = self._instruments.observer
        try:
            pool = await stack.enter_async_context(wiring.pool(self._settings, self._config))
        except TryLater as trouble:
            observer.hook_missing(str(trouble))
            raise
        observer.hook_loaded()
        if pool.exposed:
            logger.warning("the hook can read credentials, configuration and ledger: {}", pool.exposed)
        self._instruments.monitor.changed_hook_files = pool.changed_files
        return pool

    async def _window(self, contract: TaskManager, nodes: NodePool) -> tuple[int | None]:
        try:
            # At the head of this moment: a reorg may have taken an earlier one, and the wait for it would never end.
            head = await nodes.head()
            return (await contract.response_window(head),)
        except NoSuchView as wrong:
            if await contract.has_no_code(head):
                raise FixConfiguration(
                    f"task_manager.address: there is no code at 0x{contract.address.hex()} on chain "
                    f"{self._settings.chain.chain_id} (block {head.number}); correct the address or chain.chain_id"
                ) from None
            raise FixConfiguration(f"task_manager.address: {wrong}") from None

    def _beginning(self) -> queries.Beginning | None:
        wanted = self._settings.task_manager
        with closing(Reader(parse_url(self._settings.ledger.url))) as reader:
            begun = reader.read_now(queries.beginning, self._settings.chain.chain_id, wanted.address_bytes)
        # "latest" is meant for the first start only: afterwards the ledger knows.
        if begun is not None and wanted.start_block not in ("latest", begun.start_block):
            raise FixConfiguration(
                f"task_manager.start_block: this ledger was begun at block {begun.start_block}, not "
                f"{wanted.start_block}; use that number, or name a new ledger"
            )
        return begun

    async def _run_stages(
        self, rooms: wiring.Stages, own: OwnLedger, ledger: Ledger, nodes: NodePool, reload: Reload
    ) -> None:
        status = Status(ledger, self._settings, self._clock)
        loops = [StageLoop(one, self._wakeups, self._clock, self._stopping) for one in rooms.stages]
        # A chain that has changed behind our back is noticed before anything is sent to it.
        await self._patiently(rooms.watch.step, "the chain")
        rounds = Jobs(rooms, self._clock)
        self._instruments.monitor.contradictions = lambda: rooms.consistency.messages
        rooms.drift.on_window.append(self._instruments.window_changed)
        if rooms.submit is not None:
            self._instruments.monitor.prober.on_back += [rooms.submit.make_due, lambda: self._wakeups.wake("submit")]
        await rounds.compare_at_start()
        rounds.start(self._feeder(loops), watchdog_interval_s())
        working = [asyncio.create_task(loop.run(), name=loop.stage.name) for loop in loops]
        guarding = watch_file(own, ledger, self._stopping, self._clock)
        working.append(asyncio.create_task(guarding, name="ledger file"))
        helping = [asyncio.create_task(wake.run(), name="wake") for wake in self._wakes(nodes, rooms)]
        helping.append(asyncio.create_task(rounds.watch_clock(), name="clock"))
        helping.append(asyncio.create_task(reload.follow(self._hangup, self._wakeups, self._notify), name="reload"))
        if self._until_idle:
            idle = status.until_idle(self._stopping, self._wakeups, rounds.repair)
            working.append(asyncio.create_task(idle, name="until idle"))
        self._instruments.monitor.started(loops)
        self._notify.ready(await status.line())
        self._instruments.monitor.listeners.append(lambda health: self._notify.status(told(health)))
        logger.info("watching {}", await status.line())
        try:
            await self._first_to_end(working)
        finally:
            self._stopping.set()
            self._wakeups.wake_all()
            rounds.stop()
            for one in helping:
                one.cancel()
            await self._drain(rooms, working)
            await asyncio.gather(*helping, return_exceptions=True)
            logger.info("stopped at {}", await status.line())

    async def _first_to_end(self, working: list[asyncio.Task[None]]) -> None:
        """Return when told to stop; raise as soon as a stage raises."""
        done, _ = await asyncio.wait(working, return_when=asyncio.FIRST_EXCEPTION)
        for one in done:
            one.result()

    async def _drain(self, rooms: wiring.Stages, working: list[asyncio.Task[None]]) -> None:
        """Await what is on its way. Stages have stopped claiming."""
        try:
            async with asyncio.timeout(_DRAIN_S):
                await asyncio.gather(*working, return_exceptions=True)
                for flying in (rooms.respond, rooms.submit):
                    if flying is not None:
                        await flying.drain()
        except TimeoutError:
            logger.warning("some requests did not come back in time; the chain will tell what became of them")
            for one in working:
                one.cancel()
            await asyncio.gather(*working, return_exceptions=True)

    def _wakes(self, nodes: NodePool, rooms: wiring.Stages) -> list[Subscription]:
        contract = wiring.task_manager(self._settings, nodes)
        return wiring.wakes(self._settings, contract, lambda: self._wakeups.wake(rooms.watch.name), self._clock)

    def _feeder(self, loops: list[StageLoop]) -> Callable[[], None]:
        def feed() -> None:
            now_s = self._clock.monotonic_s()
            if all(now_s - loop.beat_s < self._stuck_after_s for loop in loops):
                self._notify.watchdog()

        return feed

    @property
    def _stuck_after_s(self) -> float:
        """No step takes longer than a few requests to each node."""
        chain = self._settings.chain
        return 30 + 4 * chain.request_timeout_s * len(chain.http_urls)

    async def _patiently(self, ask: Callable[[], Any], what: str) -> Any:
        """Ask until there is an answer; a node that is down is waited for. None when told to stop meanwhile."""
        pause_s, told = 0.5, False
        while not self._stopping.is_set():
            try:
                return await ask()
            except (RetryElsewhere, TryLater) as trouble:
                if not told:
                    logger.warning("waiting for {}: {}", what, trouble)
                    self._notify.status(f"waiting for {what}")
                    told = True
            try:
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
            except TimeoutError:
                pause_s = min(pause_s * 2, 10)
        return None
