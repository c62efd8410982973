"""The price of the four ways of a hook: CPU in the daemon's process for each task over a bare call, and its time.

The runner that the daemon has runs in this process, so that its CPU is what the daemon pays. The hook squares a number.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.errors import Failed, Unavailable
from bench.measure import Aim, Curve, Figure, Sample, Side, check_done
from bench.rig import Rig
from watcher.hook.plan import PoolPlan
from watcher.hook.runner import Runner, open_runner
from watcher.task import Response, Task
from watcher.testing import make_task

_EXAMPLES = Path(__file__).parents[2] / "examples"
# As many as the stage has under way at a time.
_AT_ONCE = 64
_SLICE = 200
_WAYS = ("module", "exec", "http", "grpc")
_PERFORMER = Path(__file__).parents[1] / "hooks" / "performer.py"


@dataclass(frozen=True, slots=True)
class HookOverhead:
    """`count` tasks under load, then single ones, through one way after the other."""

    count: int

    name = "hook-overhead"
    title = "hooks: the price of a task in the daemon"
    figures = (
        Figure("cpu_ms", "CPU ms, median", 3),
        Figure("cpu_p99_ms", "p99 of slices", 3),
        Figure("single_ms", "one alone: ms", 2),
        Figure("single_p99_ms", "p99", 2),
    )
    aims = (
        Aim("module", "cpu_ms", "value", 0.15),
        Aim("exec", "cpu_ms", "value", 0.5),
        Aim("http", "cpu_ms", "value", 1.0),
        Aim("grpc", "cpu_ms", "value", 1.0),
    )
    curves: Sequence[Curve] = ()

    def sides(self, rig: Rig) -> Sequence[Side]:  # noqa: ARG002
        return [Side(way) for way in _WAYS]

    @asynccontextmanager
    async def ground(self, rig: Rig) -> AsyncIterator[None]:  # noqa: ARG002
        yield None

    async def run(self, side: Side, ground: None, folder: Path) -> Sample:  # noqa: ARG002
        async with _target(side.name) as (target, app_dir), open_runner(target, PoolPlan(), app_dir=app_dir) as runner:
            return await _measured(runner, self.count)

    def check(self, side: Side, sample: Sample) -> None:
        check_done(side, sample)


async def _measured(runner: Runner, count: int) -> Sample:
    tasks = [make_task(number.to_bytes(32, "big"), task_index=number) for number in range(count)]
    await _burst(runner, tasks[:_SLICE])  # the workers are warm
    bare_s = _bare_call_s(tasks)
    slices: list[float] = []
    done = 0
    for first in range(0, count, _SLICE):
        part = tasks[first : first + _SLICE]
        begun_s = time.process_time()
        done += await _burst(runner, part)
        slices.append((time.process_time() - begun_s) / len(part) - bare_s)
    singles: list[float] = []
    for task in tasks[:_SLICE]:
        begun_s = time.perf_counter()
        await runner.run(task)
        singles.append(time.perf_counter() - begun_s)
    values = {
        "cpu_ms": 1000 * median(slices),
        "cpu_p99_ms": 1000 * _p99(slices),
        "single_ms": 1000 * median(singles),
        "single_p99_ms": 1000 * _p99(singles),
    }
    return Sample(values, expected=count, done=done)


async def _burst(runner: Runner, tasks: Sequence[Task]) -> int:
    """Run the tasks, several at a time; return how many were answered with the square."""
    limit = asyncio.Semaphore(_AT_ONCE)

    async def answer(task: Task) -> bool:
        async with limit:
            verdict = await runner.run(task)
        return isinstance(verdict, Response) and verdict.resp_message == _square(task)

    return sum(await asyncio.gather(*map(answer, tasks)))


def _bare_call_s(tasks: Sequence[Task]) -> float:
    begun_s = time.process_time()
    for task in tasks:
        _square(task)
    return (time.process_time() - begun_s) / len(tasks)


def _square(task: Task) -> bytes:
    number = int.from_bytes(task.message, "big")
    return (number * number % 2**256).to_bytes(32, "big")


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * 99 // 100)]


@asynccontextmanager
async def _target(way: str) -> AsyncIterator[tuple[str, Path]]:
    """Give target and app_dir of a way, with its service running. Raises Unavailable, and Failed."""
    if way == "module":
        yield "squaring:respond", _EXAMPLES / "squaring"
    elif way == "exec":
        yield f"exec:{sys.executable} squaring_exec.py", _EXAMPLES / "hooks"
    elif way == "http":
        async with serving(_EXAMPLES / "hooks" / "squaring_http.py", "0") as url:
            yield url, _EXAMPLES
    else:
        try:
            import grpc  # noqa: F401
        except ModuleNotFoundError:
            raise Unavailable("the extra grpc is not installed") from None
        async with serving(_PERFORMER) as url:
            yield url, _EXAMPLES


@asynccontextmanager
async def serving(*script: object) -> AsyncIterator[str]:
    """Run a service in a process of its own, and give the URL that it prints."""
    command = [sys.executable, "-u", *map(str, script)]
    service = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert service.stdout is not None
    try:
        line = (await asyncio.wait_for(service.stdout.readline(), 30)).decode().split()
        if not line:
            raise Failed(f"{script[0]} did not start")
        yield line[-1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            service.kill()
        await service.wait()
