"""The time of good tasks between faults: hooks that raise, hang, flood, lie, exit, fork, leak and return garbage."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.hooks.abusive import FAULTS, square
from bench.measure import Aim, Curve, Figure, Sample, Side, check_done
from bench.measures.hook_overhead import serving
from bench.rig import Rig
from watcher.errors import AttemptFailed, TryLater
from watcher.hook.plan import PoolPlan
from watcher.hook.runner import Runner, open_runner
from watcher.task import Response, Task
from watcher.testing import make_task

_HOOKS = Path(__file__).parents[1] / "hooks"
_WAYS = ("module", "exec", "http", "grpc")
_ABUSED = ", abused"
_EVERY_S = 0.02
# So many good tasks come for each fault. A fault that hangs holds a worker for the time limit.
_GOOD_PER_FAULT = 25
_PLAN = PoolPlan(workers=4, timeout_s=1.0)


@dataclass(frozen=True, slots=True)
class HookAbuse:
    """`count` good tasks at a steady pace, alone and with a fault after every 25th."""

    count: int

    name = "hook-abuse"
    title = "hooks: good tasks between faults"
    figures = (Figure("good_ms", "good task: ms, median", 2), Figure("good_p99_ms", "p99", 2))
    curves: Sequence[Curve] = ()

    @property
    def aims(self) -> Sequence[Aim]:
        return [Aim(f"{way}{_ABUSED}", "good_ms", "times", 1.1) for way in _WAYS]

    def sides(self, rig: Rig) -> Sequence[Side]:  # noqa: ARG002
        return [side for way in _WAYS for side in (Side(way), Side(f"{way}{_ABUSED}", against=way))]

    @asynccontextmanager
    async def ground(self, rig: Rig) -> AsyncIterator[None]:  # noqa: ARG002
        yield None

    async def run(self, side: Side, ground: None, folder: Path) -> Sample:  # noqa: ARG002
        way = side.name.removesuffix(_ABUSED)
        async with _target(way) as target, open_runner(target, _PLAN, app_dir=_HOOKS) as runner:
            return await _measured(runner, self.count, is_abused=side.name.endswith(_ABUSED))

    def check(self, side: Side, sample: Sample) -> None:
        check_done(side, sample)


async def _measured(runner: Runner, count: int, *, is_abused: bool) -> Sample:
    times_s: list[float] = []
    runs: list[asyncio.Task[bool]] = []
    faults: list[asyncio.Task[bool]] = []
    for number in range(count):
        runs.append(asyncio.create_task(_answered(runner, make_task(number.to_bytes(32, "big")), times_s)))
        if is_abused and number % _GOOD_PER_FAULT == 0:
            fault = FAULTS[number // _GOOD_PER_FAULT % len(FAULTS)]
            faults.append(asyncio.create_task(_answered(runner, make_task(fault.encode()), [])))
        await asyncio.sleep(_EVERY_S)
    done = sum(await asyncio.gather(*runs))
    await asyncio.gather(*faults)
    ordered = sorted(times_s)
    values = {"good_ms": 1000 * median(ordered), "good_p99_ms": 1000 * ordered[len(ordered) * 99 // 100]}
    return Sample(values, expected=count, done=done)


async def _answered(runner: Runner, task: Task, times_s: list[float]) -> bool:
    """Run a task, again while the runner cannot; return True for the square of its number."""
    begun_s = time.perf_counter()
    while True:
        try:
            verdict = await runner.run(task)
        except AttemptFailed:
            return False
        except TryLater:
            await asyncio.sleep(0.05)
            continue
        times_s.append(time.perf_counter() - begun_s)
        return isinstance(verdict, Response) and verdict.resp_message == square(task.message)


@asynccontextmanager
async def _target(way: str) -> AsyncIterator[str]:
    if way == "module":
        yield "abusive:respond"
    elif way == "exec":
        yield f"exec:{sys.executable} abusive.py exec"
    else:
        async with serving(_HOOKS / "abusive.py", way) as url:
            yield url
