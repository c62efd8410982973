"""The latency: from the order to mine a block to the arrival of the POST for a task in it."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.errors import Failed
from bench.listener import listener, live_sides
from bench.measure import Aim, Curve, Figure, Point, Sample, Side, check_done
from bench.rig import Rig
from bench.server import Arrivals, local_api
from bench.task_chain import TaskChain, task_chain

_WARM_UP_TASKS = 3
_WARM_UP_TIMEOUT_S = 60
_BLOCK_S = 1.0  # without an answer within it, the next block is mined, as on a chain
_ANSWER_BLOCKS = 20
_PAUSE_S = 0.08  # between blocks, so that each meets a listener at rest
_PERCENTILES = (*range(0, 100, 5), 99, 100)


@dataclass(frozen=True, slots=True)
class Latency:
    """The watcher without confirmations, beside peers that store nothing and check nothing.

    Attributes:
        singles: blocks with one task.
        crowds: blocks with `crowd` tasks each.
        program: the name of the watcher in aims.
    """

    singles: int
    crowds: int
    crowd: int
    program: str = "watcher"

    name = "latency"
    title = "latency: block to POST"
    curves = (
        Curve("latency-single", "One task in a block", "percentile", "ms", series="single", log_y=True),
        Curve("latency-crowd", "Many tasks in a block", "percentile", "ms", series="crowd", log_y=True),
    )

    @property
    def figures(self) -> Sequence[Figure]:
        alone = [Figure(f"single_p{number}", f"one task: p{number} ms", 1) for number in (50, 90, 99)]
        return (
            *alone,
            *(Figure(f"crowd_p{number}", f"{self.crowd} tasks: p{number} ms", 1) for number in (50, 90, 99)),
        )

    @property
    def aims(self) -> Sequence[Aim]:
        return (Aim(self.program, "single_p50", "plus", 5.0),)

    def sides(self, rig: Rig) -> Sequence[Side]:
        return live_sides(rig)

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
            single: list[float] = []
            crowd: list[float] = []
            for tasks, blocks, times_ms in ((1, self.singles, single), (self.crowd, self.crowds, crowd)):
                for _ in range(blocks):
                    times_ms += await mine_tasks(chain, arrivals, tasks)
                    running.require_running()
                    await asyncio.sleep(_PAUSE_S)
        expected = self.singles + self.crowds * self.crowd
        figures = {f"single_p{number}": percentile(single, number) for number in (50, 90, 99)}
        figures |= {f"crowd_p{number}": percentile(crowd, number) for number in (50, 90, 99)}
        series = {"single": _points(single), "crowd": _points(crowd)}
        return Sample(figures, expected, len(single) + len(crowd), series)

    def check(self, side: Side, sample: Sample) -> None:
        check_done(side, sample)


async def warm_up(chain: TaskChain, arrivals: Arrivals) -> None:
    """Mine single tasks until the listener answers new ones. Raises Failed if it never does."""
    ends_s, answered = time.monotonic() + _WARM_UP_TIMEOUT_S, 0
    while answered < _WARM_UP_TASKS:
        if time.monotonic() > ends_s:
            raise Failed(f"no answer within {_WARM_UP_TIMEOUT_S} s")
        index = await chain.manager.count()
        await chain.submit(1)
        await chain.mine()
        await asyncio.sleep(_BLOCK_S / 2)
        answered += index in arrivals.at_s
    await asyncio.sleep(_BLOCK_S)


async def mine_tasks(chain: TaskChain, arrivals: Arrivals, tasks: int) -> Sequence[float]:
    """Mine a block with so many tasks. Return the time to the POST of each that was answered, in ms."""
    first = await chain.manager.count()
    indices = range(first, first + tasks)
    await chain.submit(tasks)
    began_s = time.monotonic()
    await chain.mine()
    for _ in range(_ANSWER_BLOCKS):
        if await _answered(arrivals, indices):
            break
        await chain.mine()
    return [(arrivals.at_s[index] - began_s) * 1000 for index in indices if index in arrivals.at_s]


async def _answered(arrivals: Arrivals, indices: range) -> bool:
    """Wait for one block's time until all tasks are answered."""
    missing = sum(index not in arrivals.at_s for index in indices)
    return await arrivals.wait(len(arrivals.at_s) + missing, _BLOCK_S)


def percentile(values: Sequence[float], number: float) -> float:
    """Return the value that `number` percent of the values do not exceed (nearest rank); not a number if empty."""
    if not values:
        return float("nan")
    rank = max(1, -(-len(values) * number // 100))
    return sorted(values)[int(rank) - 1]


def _points(values: Sequence[float]) -> Sequence[Point]:
    return [(float(number), percentile(values, number)) for number in _PERCENTILES]
