"""The cost of blocks: CPU of a block without tasks, and of one with a single task; memory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.listener import SILVERBACK, listener, live_sides
from bench.measure import Aim, Curve, Figure, Sample, Side, check_done
from bench.measures.latency import warm_up
from bench.process import Child
from bench.rig import Rig
from bench.server import local_api
from bench.task_chain import task_chain

_PAUSE_S = 0.2
_LAST_ANSWER_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Idle:
    """A live daemon beside Silverback. The CPU of the same time without blocks is taken off."""

    blocks: int
    program: str = "watcher"

    name = "idle"
    title = "idle: the cost of a block"
    figures = (
        Figure("empty_ms", "CPU ms/empty block", 1),
        Figure("task_ms", "CPU ms/block with a task", 1),
        Figure("rest_ms", "CPU ms/s without blocks", 1),
        Figure("resident_mib", "resident MiB"),
        Figure("children_mib", "of its children"),
    )
    curves: Sequence[Curve] = ()

    @property
    def aims(self) -> Sequence[Aim]:
        return (Aim(self.program, "empty_ms", "value", 4.0), Aim(self.program, "task_ms", "value", 10.0))

    def sides(self, rig: Rig) -> Sequence[Side]:
        if not rig.with_peers:
            return live_sides(rig)
        program = rig.programs[0]
        peer = next(side.peer for side in live_sides(rig) if side.name == SILVERBACK)
        return [Side(program.name, program.name, SILVERBACK, program), Side(SILVERBACK, SILVERBACK, peer=peer)]

    @asynccontextmanager
    async def ground(self, rig: Rig) -> AsyncIterator[Rig]:
        yield rig

    async def run(self, side: Side, ground: Rig, folder: Path) -> Sample:
        async with (
            task_chain(ground.anvil, folder) as chain,
            local_api() as (api_url, arrivals),
            listener(side, chain, api_url, ground.cache, folder) as running,
        ):
            await warm_up(chain, arrivals)
            first = await chain.manager.count()
            answered = len(arrivals.at_s)

            async def task() -> None:
                await chain.submit(1)
                await chain.mine()

            rest_ms = await self._cost_ms(running, _nothing)
            empty_ms = await self._cost_ms(running, chain.mine)
            task_ms = await self._cost_ms(running, task)
            await chain.mine()
            await arrivals.wait(answered + self.blocks, _LAST_ANSWER_TIMEOUT_S)
            usage = running.usage()
            done = sum(index in arrivals.at_s for index in range(first, first + self.blocks))
        values = {
            "empty_ms": empty_ms - rest_ms,
            "task_ms": task_ms - rest_ms,
            "rest_ms": rest_ms / _PAUSE_S,
            "resident_mib": usage.resident_mib,
            "children_mib": usage.children_mib,
        }
        return Sample(values, self.blocks, done)

    async def _cost_ms(self, running: Child, act: Callable[[], Awaitable[None]]) -> float:
        """Return the CPU of all processes of a side for one act with the pause after it, in ms."""
        before_s = running.usage().whole_cpu_s
        for _ in range(self.blocks):
            await act()
            await asyncio.sleep(_PAUSE_S)
        return (running.usage().whole_cpu_s - before_s) * 1000 / self.blocks

    def check(self, side: Side, sample: Sample) -> None:
        check_done(side, sample)


async def _nothing() -> None:
    """Do nothing: the cost of the time alone."""
