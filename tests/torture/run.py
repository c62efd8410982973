"""One torture run: havoc, then quiet, then the oracle."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tests.system.daemon_rig import Daemon
from tests.torture import havoc
from tests.torture.evidence import Evidence, gather
from tests.torture.hook import Manner
from tests.torture.plan import Plan, api_fault, dealt, rpc_fault
from tests.torture.settle import quieten, up, work_off
from tests.torture.transitions import bring_about
from tests.torture.world import World, running_world
from watcher.devnet.journal import read_journal

PHASE_S = 5.0
BATCH_S = 1.0
READY_WAIT_S = 6.0
ABREAST_WAIT_S = 15.0
MOP_UP_S = 180.0  # a subscription that a fault has silenced is made anew only after a time
UNMEETABLE_THRESHOLD = 101  # percent: such a task can be asked and never be answered
BACKLOG_TASKS = 400
SAY_EVERY_S = 10.0

Say = Callable[[str], None]


class Run:
    """The actors of a run; each has dice of its own, so that the same seed makes the same choices."""

    block_s = 0.25

    def __init__(self, world: World, plan: Plan, say: Say) -> None:
        self.world, self.plan, self.say = world, plan, say
        self._began_s = time.monotonic()
        self._fates = dealt([(depth, fate) for depth in havoc.DEPTHS for fate in havoc.FATES], self._dice("fates"))
        self._rpc = dealt(sorted(plan.rpc), self._dice("rpc"))
        self._api = dealt(sorted(plan.api), self._dice("api"))

    def _dice(self, name: str) -> random.Random:
        return random.Random(f"{self.plan.seed} {name}")

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    @property
    def _left(self) -> bool:
        """Is there more to do, and time to do it?"""
        done, plan = self.world.past.done, self.plan
        enough = self.world.count >= plan.tasks and done["SIGKILL"] >= plan.kills and done["reorgs"] >= plan.reorgs
        return not enough and self.elapsed_s < plan.minutes * 60

    async def everything(self) -> None:
        """Raises what any actor raises."""
        miner = asyncio.create_task(self._mine())
        talker = asyncio.create_task(self._talk())
        try:
            await self._all(self.actors(), beside=miner)
            await self._mop_up()
            self._calm()
            self.say(f"quiet after {self.elapsed_s:.0f} s: {dict(self.world.past.done)}")
            await work_off(self.world, anew=not self.plan.small)
            miner.cancel()
            if not self.plan.small:
                await bring_about(self.world, self.plan.window_blocks, self._dice("transitions"), self.say)
            await quieten(self.world, self.plan.window_blocks)
        finally:
            for job in (miner, talker):
                job.cancel()
            await asyncio.gather(miner, talker, return_exceptions=True)

    async def _all(self, actors: Sequence[Awaitable[None]], beside: asyncio.Task[None]) -> None:
        async with asyncio.TaskGroup() as group:
            for actor in actors:
                group.create_task(_awaited(actor))
        if beside.done():
            beside.result()

    # -- the actors --------------------------------------------------------------------------------------------------

    def actors(self) -> list[Awaitable[None]]:
        return [self._kill(), self._create(), self._reorg(), self._phases(), self._acts()]

    async def _mine(self) -> None:
        while True:
            await asyncio.sleep(self.block_s)
            await self.world.mine()

    async def _create(self) -> None:
        """Tasks come evenly over the run; what a reorg took away comes again."""
        dice, world = self._dice("create"), self.world
        while self._left:
            due = min(self.plan.tasks, int(self.plan.tasks * self.elapsed_s / (0.85 * self.plan.pace_s)) + 1)
            missing = due - world.count
            if missing > 0 and self._backlog() < BACKLOG_TASKS:
                await world.create(world.messages(min(missing, 100)))
            if dice.random() < 0.03:
                await world.create([world.message(Manner.PLAIN)], UNMEETABLE_THRESHOLD)
            if dice.random() < 0.05 and not self.plan.small:
                await world.create([world.message(Manner.RAISE_ALWAYS), world.message(Manner.HANG_FIRST)])
            await asyncio.sleep(BATCH_S)

    def _backlog(self) -> int:
        """Tasks not sent yet. On a busy machine new ones wait for the daemon, or all it could do is let them expire."""
        waiting = self.world.rig.query("SELECT count(*) FROM tasks WHERE state IN ('seen', 'ready', 'computed')")
        return int(waiting[0][0]) if waiting else 0

    async def _kill(self) -> None:
        dice, world, plan = self._dice("kill"), self.world, self.plan
        victim, all_of_them = 0, range(len(world.daemons))
        # One that died by itself is none of these, and another is killed for it.
        while self._left and (number := world.past.done["SIGKILL"]) < plan.kills:
            daemons = [await world.ensure_up(each) for each in all_of_them]
            if dice.random() < 0.75:
                victim = dice.choice(all_of_them)
                await self._ready(daemons[victim])
                at_s = plan.pace_s * (number + 1) / plan.kills
                # At least a moment's work in each life, also where the machine is busy and the start takes long.
                await asyncio.sleep(max(0.5, at_s - self.elapsed_s) + dice.uniform(0.0, 2.0))
                await self._abreast(number / plan.kills)
            else:  # the one that has just been started
                await asyncio.sleep(dice.uniform(0.0, 2.0))
            await world.kill(victim)
        while self._left:
            for each in all_of_them:
                await world.ensure_up(each)
            await asyncio.sleep(0.5)

    async def _ready(self, daemon: Daemon) -> None:
        """Waits until it says so, though not for long: a daemon that cannot start is killed as well as any other."""
        with suppress(AssertionError):
            await self.world.rig.until(
                lambda: "READY=1" in daemon.notices() or not daemon.running, "ready", timeout_s=READY_WAIT_S
            )

    async def _abreast(self, part: float) -> None:
        """Kills and reorgs come evenly over the tasks as well: on a busy machine those take longer than planned.

        None waits for long: a daemon that was told to leave an endpoint alone for minutes gets nothing done.
        """
        share = int(self.plan.tasks * part)
        with suppress(AssertionError):
            await self.world.rig.until(
                lambda: self.world.count >= share or not self._left, "tasks", timeout_s=ABREAST_WAIT_S
            )

    async def _nap(self, seconds: float) -> None:
        stop_s = time.monotonic() + seconds
        while self._left and time.monotonic() < stop_s:  # noqa: ASYNC110 - what is left changes in many places
            await asyncio.sleep(min(0.25, max(0.0, stop_s - time.monotonic())))

    async def _reorg(self) -> None:
        for number in range(self.plan.reorgs):
            if not self._left:
                break
            await asyncio.sleep(max(0.1, self.plan.pace_s * (number + 0.5) / self.plan.reorgs - self.elapsed_s))
            await self._abreast(number / self.plan.reorgs)
            await havoc.reorg(self.world, *next(self._fates))

    async def _phases(self) -> None:
        """Some faults at a time, and every other phase none, so that something gets done."""
        dice, number = self._dice("phases"), 0
        while self._left:
            number += 1
            self._calm()
            if number % 2:
                recent = max(0, self.world.count - dice.randint(1, 30))
                kinds = {next(self._rpc) for _ in range(min(4, len(self.plan.rpc)))}
                self.world.proxy.faults.add(*(rpc_fault(kind, dice, recent) for kind in kinds))
                self.world.net.hosted.faults.add(
                    *(api_fault(next(self._api), dice) for _ in range(min(3, len(self.plan.api))))
                )
            await self._nap(PHASE_S)
        self._calm()

    def _calm(self) -> None:
        self.world.proxy.faults.clear()
        self.world.net.hosted.faults.clear()

    async def _acts(self) -> None:
        dice = self._dice("acts")
        acts = dealt(list(havoc.ACTS), dice)
        every_s = 20.0 if self.plan.small else 10.0
        while self._left:
            await self._nap(dice.uniform(0.5, 1.5) * every_s)
            await havoc.ACTS[next(acts)](self.world, dice)
            if dice.random() < 0.15 and not self.plan.small:
                await havoc.by_hand(self.world, dice)

    # -- the end -----------------------------------------------------------------------------------------------------

    async def _mop_up(self) -> None:
        """What did not happen by chance is brought about: each such fault once."""
        dice, world = self._dice("mop up"), self.world
        stop_s = time.monotonic() + MOP_UP_S
        while (rpc := self._unseen_rpc()) | (api := self._unseen_api()) and time.monotonic() < stop_s:
            self.say(f"still to happen: {', '.join(sorted(rpc | api))}")
            await up(world)
            self._calm()
            expected = [
                rpc_fault(kind, dice, world.count - 1, once=True) for kind in self.plan.rpc if f"rpc.{kind}" in rpc
            ]
            world.proxy.faults.add(*expected)
            kinds = [kind for kind in self.plan.api if f"api.{kind}" in api]
            world.net.hosted.faults.add(*(api_fault(kind, dice, once=True) for kind in kinds))
            await world.create(world.messages(10))
            await world.pause(1.0)  # so that several blocks are asked for at once
            await asyncio.sleep(3.0)
        self._calm()
        if not self.plan.small:
            await self._left_out(dice)

    async def _left_out(self, dice: random.Random) -> None:
        """Each act and each kind of reorg that no chance drew."""
        done = self.world.past.done
        for name, act in havoc.ACTS.items():
            if not done[name]:
                await up(self.world)
                await act(self.world, dice)
        for fate in havoc.FATES:
            if not done[f"reorg {fate}"]:
                await havoc.reorg(self.world, dice.choice(havoc.DEPTHS), fate)

    def _unseen_rpc(self) -> set[str]:
        return {f"rpc.{kind}" for kind in self.plan.rpc if not self.world.proxy.faults.struck[kind]}

    def _unseen_api(self) -> set[str]:
        seen = {name for entry in read_journal(self.world.net.journal.path) for name in entry.get("faults", ())}
        return {f"api.{kind}" for kind in self.plan.api if kind not in seen}

    async def _talk(self) -> None:
        while True:
            await asyncio.sleep(SAY_EVERY_S)
            done, world = self.world.past.done, self.world
            states: dict[str, int] = dict(world.rig.query("SELECT state, count(*) FROM tasks GROUP BY state"))
            struck = sum(world.proxy.faults.struck.values())
            plan = self.plan
            self.say(
                f"{self.elapsed_s:5.0f} s  tasks {world.count}/{plan.tasks}  kills {done['SIGKILL']}/{plan.kills}"
                f"  reorgs {done['reorgs']}/{plan.reorgs}  faults of the node {struck}  {states}"
            )


async def _awaited(job: Awaitable[None]) -> None:
    await job


async def torture(folder: Path, plan: Plan, say: Say) -> Evidence:
    """Runs the plan in `folder` and returns what the oracle needs. The folder keeps everything that was written."""
    async with running_world(folder, plan.seed, window_blocks=plan.window_blocks, quorum=plan.quorum) as world:
        await Run(world, plan, say).everything()
        return await gather(world, plan)
