"""One life of the simulated daemon: built by the real composition root, run by the real loops, ended by a crash.

What differs from `watcher.daemon.avs_run` is listed here: no signals, no lock, no worker processes, no WebSocket (the
world wakes the stages, or forgets to).
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

from pydantic import SecretStr

from tests.simulation.books import open_ledger
from tests.simulation.chain import CHAIN_ID, MANAGER
from tests.simulation.outside import API_TIMEOUT_S, HOOK_TIMEOUT_S
from watcher.chain.contract import TaskManager as Contract
from watcher.chain.genesis import genesis_hash
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.poll import Pushed
from watcher.chain.source import Source
from watcher.daemon import avs_run, parts, routes, wiring
from watcher.errors import LostLease, RetryElsewhere, TryLater
from watcher.ledger import sending
from watcher.ledger.source import open_source
from watcher.settings.hook import Hook
from watcher.settings.model import Chain, Settings, TaskManager
from watcher.settings.operator import Operator
from watcher.stage import StageLoop, Wakeups
from watcher.task import Header

if TYPE_CHECKING:
    from tests.simulation.world import World

_IDLE_S = 20.0
_RECONCILE_S = 30.0
START_BLOCK = 1


def settings_of(world: "World") -> Settings:
    """The settings of a scenario: what the file would say."""
    rules = world.rules
    chain = Chain(
        rpc_urls=tuple(f"http://node-{number}.test" for number in range(rules.nodes)),
        chain_id=CHAIN_ID,
        confirmations=rules.confirmations,
        finality=rules.finality if rules.by_depth else "finalized",
        quorum=rules.quorum,
        poll_interval_s=6.0,
        max_span_blocks=rules.max_span,
    )
    operator = Operator(
        url="http://127.0.0.1:1", password=SecretStr("x"), timeout_s=API_TIMEOUT_S, concurrency=rules.concurrency,
        retry_base_s=0.5, retry_max_s=4.0, resolve_after_blocks=rules.resolve_after,
    )  # fmt: skip
    hook = Hook(target="x:y", timeout_s=HOOK_TIMEOUT_S, workers=1, max_attempts=rules.hook_attempts, retry_base_s=0.5)
    manager = TaskManager(address="0x" + MANAGER.hex(), start_block=START_BLOCK, dry_run=False)
    return Settings(chain=chain, operator=operator, hook=hook, task_manager=manager)


class Life:
    """From start to stop or crash. `bug` is what ended it otherwise."""

    def __init__(self, world: "World", settings: Settings) -> None:
        self._world = world
        self._settings = settings
        self._stopping = asyncio.Event()
        stages = avs_run.STAGES
        self.wakeups = Wakeups(stages)
        self.nodes = NodePool(
            cast("Any", world.replicas), world.clock, world.random(f"endpoints {world.life}"), world.rules.quorum
        )
        self.stages: wiring.Stages | None = None
        self._main = asyncio.get_running_loop().create_task(self._live(), name="main")

    @property
    def bug(self) -> BaseException | None:
        if self._main.done() and not self._main.cancelled():
            return self._main.exception()
        return None

    async def _live(self) -> None:
        world = self._world
        contract = parts.task_manager(self._settings.task_manager, self.nodes, world.rules.max_span)
        observe_readings(contract, world)
        window = await self._patiently(lambda: self._window(contract))
        genesis = await self._patiently(lambda: genesis_hash(self.nodes, None))
        unbound = open_ledger(world, 0, self.wakeups.committed)
        cursor = await self._patiently(lambda: unbound.write(open_source, CHAIN_ID, MANAGER, START_BLOCK, genesis))
        ledger = open_ledger(world, cursor.source_id, self.wakeups.committed)
        world.source_id = cursor.source_id
        await self._patiently(lambda: ledger.write(sending.recover_stale, ledger.source_id, all_of_them=True))
        with seeded(world):
            source = Source(self.nodes, contract, ledger, world.clock, window)
            stages = wiring.build(self._settings, source, wiring.Outside(world.hook.run, world.api))
        self.stages = stages
        await self._patiently(stages.watch.step)
        names = [name for name in self.wakeups._events if getattr(stages, name, None) is not None]
        loops = [StageLoop(getattr(stages, name), self.wakeups, world.clock, self._stopping) for name in names]
        working = [asyncio.create_task(loop.run(), name=loop.stage.name) for loop in loops]
        housekeeping = asyncio.create_task(self._reconcile(stages), name="reconcile")
        await asyncio.wait([*working, housekeeping], return_when=asyncio.FIRST_EXCEPTION)
        for job in (*working, housekeeping):
            if job.done():
                job.result()
        housekeeping.cancel()
        for flying in (stages.respond, stages.submit):
            if flying is not None:
                await flying.drain()

    async def _window(self, contract: Contract) -> int | None:
        return await contract.response_window(await self.nodes.head())

    async def _reconcile(self, stages: wiring.Stages) -> None:
        while not self._stopping.is_set():
            try:
                await stages.reconcile.run()
            except (RetryElsewhere, TryLater, LostLease):
                pass
            await asyncio.sleep(_RECONCILE_S)

    async def _patiently(self, ask: Callable[[], Any]) -> Any:
        while True:
            try:
                return await ask()
            except (RetryElsewhere, TryLater):
                await asyncio.sleep(0.5)

    def block_is_there(self) -> None:
        """What the WebSocket would do."""
        if self.stages is not None:
            head = self._world.chain.head
            self.stages.watch.push(Pushed(head.number, head.hash))
        self.wakeups.wake("watch")

    async def stop(self) -> None:
        """SIGTERM: nothing new, and what is on its way comes back."""
        self._stopping.set()
        self.wakeups.wake_all()
        jobs = [self._main]
        await asyncio.wait(jobs, timeout=60)
        await self.crash()

    async def crash(self) -> None:
        """SIGKILL: the jobs end where they stand, and nothing they still try to do has any effect."""
        loop = cast("Any", asyncio.get_running_loop())
        me = asyncio.current_task()
        for _ in range(50):
            left = [job for job in loop.jobs if job is not me and not job.done()]
            if not left:
                return
            for job in left:
                job.cancel()
            await asyncio.sleep(0)
        raise AssertionError(f"these would not die: {left}")


def observe_readings(contract: Contract, world: "World") -> None:
    """Note what each stage reads of the contract."""
    ask = contract.ask

    async def observed(calls: Any, at: Header) -> Any:
        replies = await ask(calls, at)
        if any(any(reply) for reply in replies if isinstance(reply, bytes)):
            world.read([data for _, data in calls], at.hash)
        return replies

    contract.ask = observed  # type: ignore[method-assign]


@contextmanager
def seeded(world: "World") -> Iterator[None]:
    """The composition root takes its chance from the scenario, and stages rest longer between idle looks."""
    made = iter(range(1_000))

    def chance() -> Random:
        return world.random(f"stage {world.life} {next(made)}")

    with (
        mock.patch.object(wiring, "SystemRandom", chance),
        mock.patch.object(routes, "SystemRandom", chance),
        mock.patch.object(wiring, "_STAGE_IDLE_S", _IDLE_S),
    ):
        yield
