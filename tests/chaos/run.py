"""One run with replicas: the torture's storm, and the server, its connections and whole replicas beside it."""

import asyncio
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from tests.chaos.cluster import Cluster, ClusterRig
from tests.chaos.database import running_database
from tests.chaos.evidence import Moved, move
from tests.chaos.pg_proxy import Cut
from tests.chaos.plan import LEASE_S, MODES, PAST_LEASE, ChaosPlan, restarted
from tests.torture.evidence import Evidence, gather
from tests.torture.plan import dealt
from tests.torture.run import MOP_UP_S, Run, Say
from tests.torture.settle import up
from tests.torture.world import now_ms, running_world

MOST_COMMITS_BETWEEN = 30
SERVICE_S = 2.0  # systemd's unit waits for 5


class ChaosRun(Run):
    """The torture's actors, and those that only a ledger with a server and several daemons can have."""

    world: Cluster
    plan: ChaosPlan
    block_s = 0.5  # each head is looked at by every replica

    async def everything(self) -> None:
        await up(self.world)  # an empty database gets its tables in peace
        self._began_s = time.monotonic()
        await super().everything()

    def actors(self) -> list[Awaitable[None]]:
        return [*super().actors(), self._serve(), self._restart(), self._cut(), self._stop_past_lease()]

    async def _serve(self) -> None:
        """As a service manager: starts again what has ended, so that a kill does not wait for it."""
        while self._left:
            await self._nap(SERVICE_S)
            for number in range(self.plan.replicas):
                await self.world.ensure_up(number)

    async def _restart(self) -> None:
        dice = self._dice("restart")
        modes = dealt(MODES, dice)
        while self._left:
            await self._nap(dice.uniform(*self.plan.restart_s))
            if not self._left:
                break
            await self._restart_in(next(modes), dice.uniform(*self.plan.away_s))

    async def _restart_in(self, mode: str, away_s: float) -> None:
        await self.world.rig.database.restart(mode, away_s)
        self.world.past.done[restarted(mode)] += 1

    async def _cut(self) -> None:
        dice, proxy = self._dice("cut"), self.world.rig.database.proxy
        cuts = dealt(tuple(Cut), dice)
        while self._left:
            await self._nap(dice.uniform(*self.plan.cut_s))
            # Not always the next one: where all replicas start at once, those are theirs, and no start would end.
            proxy.arm(next(cuts), dice.randrange(MOST_COMMITS_BETWEEN))

    async def _stop_past_lease(self) -> None:
        dice, world = self._dice("lease"), self.world
        while self._left and not self.plan.small:
            await self._nap(dice.uniform(*self.plan.lease_s))
            number, began_ms = dice.randrange(self.plan.replicas), now_ms()
            daemon = world.daemons[number]
            await world.pause(self.plan.stop_s(dice), number)
            whole = daemon is not None and daemon.running and now_ms() - began_ms > LEASE_S * 1000
            world.past.done[PAST_LEASE] += whole

    async def _mop_up(self) -> None:
        await super()._mop_up()
        done, proxy = self.world.past.done, self.world.rig.database.proxy
        for mode in MODES:
            if not done[restarted(mode)]:
                await self._restart_in(mode, 0.0)
        stop_s = time.monotonic() + MOP_UP_S
        while (missing := [cut for cut in Cut if not done[str(cut)]]) and time.monotonic() < stop_s:
            await up(self.world)
            for place, cut in enumerate(missing):
                proxy.arm(cut, place)
            await asyncio.sleep(0.5)


async def chaos(folder: Path, plan: ChaosPlan, say: Say) -> tuple[Evidence, Moved]:
    """Runs the plan in `folder`; then the ledger moves into a file there, which the oracle reads.

    Raises NoServer where there is no PostgreSQL.
    """
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(running_database(f"chaos_{plan.seed}"))
        world = await stack.enter_async_context(
            running_world(
                folder,
                plan.seed,
                window_blocks=plan.window_blocks,
                quorum=plan.quorum,
                make_rig=partial(ClusterRig, database),
                make_world=partial(Cluster, plan),
            )
        )
        assert isinstance(world, Cluster)
        run = ChaosRun(world, plan, say)
        await run.everything()
        moved = await move(world, plan)
        return await gather(world, plan), moved
