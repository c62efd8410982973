"""A slow API: each reply takes 100 ms, and thousands of tasks are open."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.errors import Failed
from bench.measure import Aim, Curve, Figure, Point, Sample, Side, check_done
from bench.measures.burst import side_name
from bench.process import Child
from bench.program import daemon
from bench.rig import Rig
from bench.script import run_script, spec_of
from bench.server import Arrivals, local_api
from bench.settings import Choice, tables
from bench.task_chain import TaskChain, task_chain

_DELAY_S = 0.1
_TASKS_PER_BLOCK = 500
_FIRST_POST_TIMEOUT_S = 120
_SAMPLE_S = 0.25
_NAIVE = "naive script"


@dataclass(frozen=True, slots=True)
class Ground:
    """What the runs share: the chain with its tasks."""

    chain: TaskChain


@dataclass(frozen=True, slots=True)
class SlowApi:
    """A daemon that works off a backlog, watched for a while from its first POST on.

    Attributes:
        tasks: open at the start.
        watched_s: how long it is watched, in seconds.
        concurrencies: [operator] concurrency of each side; 0: the default.
    """

    tasks: int
    watched_s: float
    concurrencies: Sequence[int]
    program: str = "watcher"

    name = "slow-api"
    title = f"slow API: {_DELAY_S * 1000:g} ms for each reply"
    figures = (
        Figure("per_s", "POSTs/s"),
        Figure("cpu_us", "CPU us/POST"),
        Figure("resident_mib", "resident MiB"),
        Figure("growth", "times that at the first POST", 2),
    )
    curves = (Curve("slow-api", "Memory over POSTs", "POSTs", "resident MiB", series="resident"),)

    @property
    def aims(self) -> Sequence[Aim]:
        return tuple(Aim(side_name(self.program, number), "growth", "value", 1.25) for number in self.concurrencies)

    def sides(self, rig: Rig) -> Sequence[Side]:
        sides = [
            Side(
                side_name(program.name, number),
                side_name(program.name, number),
                _NAIVE if rig.with_peers else side_name(rig.programs[1].name, number),
                program,
                x=number,
            )
            for number in self.concurrencies
            for program in rig.programs
        ]
        return [*sides, Side(_NAIVE, _NAIVE)] if rig.with_peers else sides

    @asynccontextmanager
    async def ground(self, rig: Rig) -> AsyncIterator[Ground]:
        async with task_chain(rig.anvil, rig.folder) as chain:
            await chain.create(self.tasks, _TASKS_PER_BLOCK)
            yield Ground(chain)

    async def run(self, side: Side, ground: Ground, folder: Path) -> Sample:
        async with local_api(_DELAY_S) as (api_url, arrivals):
            if side.program is None:
                script = await run_script(spec_of(ground.chain, api_url, self.watched_s), folder)
                times_s = sorted(arrivals.at_s.values())
                if len(times_s) < 2:
                    raise Failed(f"the script sent {len(times_s)} POSTs within {self.watched_s:g} s")
                values = {"per_s": (len(times_s) - 1) / (times_s[-1] - times_s[0])}
                return Sample(values, arrivals.posts, script.tasks)
            settings = tables(ground.chain, Choice(api_url, int(side.x)))
            async with daemon(side.program, settings, folder) as running:
                return await self._watch(running.child, arrivals)

    async def _watch(self, running: Child, arrivals: Arrivals) -> Sample:
        """Return the figures of the time from the first POST on."""
        if not await arrivals.wait(1, _FIRST_POST_TIMEOUT_S):
            raise Failed(f"no POST within {_FIRST_POST_TIMEOUT_S} s: {running.log_end()}")
        began_s, start = time.monotonic(), running.usage()
        points: list[Point] = []
        while time.monotonic() - began_s < self.watched_s and len(arrivals.at_s) < self.tasks:
            points.append((float(arrivals.posts), running.usage().resident_mib))
            await asyncio.sleep(_SAMPLE_S)
        running.require_running()
        usage, posts = running.usage(), arrivals.posts
        values = {
            "per_s": posts / (time.monotonic() - began_s),
            "cpu_us": (usage.cpu_s - start.cpu_s) / posts * 1e6,
            "resident_mib": usage.resident_mib,
            "growth": usage.resident_mib / start.resident_mib,
        }
        return Sample(values, posts, len(arrivals.at_s), {"resident": points})

    def check(self, side: Side, sample: Sample) -> None:
        check_done(side, sample)
