"""The memory of a daemon over many tasks, which stay open."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.errors import Failed
from bench.measure import Aim, Curve, Figure, Point, Sample, Side, check_done
from bench.program import daemon
from bench.rig import Rig
from bench.server import local_api
from bench.settings import Choice, tables
from bench.task_chain import CONFIRMATIONS, task_chain

_CONCURRENCY = 32
_PARTS = 10
_PART_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Memory:
    """A daemon that answers `tasks` tasks in ten blocks; none of them is answered on the chain."""

    tasks: int
    program: str = "watcher"

    name = "memory"
    title = "memory: resident size over answered tasks"
    figures = (
        Figure("resident_mib", "resident MiB at the end", 1),
        Figure("ready_mib", "at READY", 1),
        Figure("first_mib", "after a tenth", 1),
        Figure("growth", "times after a tenth", 2),
        Figure("children_mib", "of its children", 1),
    )
    curves = (Curve("memory", "Memory over answered tasks", "tasks", "resident MiB", series="resident"),)

    @property
    def aims(self) -> Sequence[Aim]:
        return (Aim(self.program, "resident_mib", "value", 85.0), Aim(self.program, "growth", "value", 1.1))

    def sides(self, rig: Rig) -> Sequence[Side]:
        against = rig.programs[-1].name if len(rig.programs) > 1 else ""
        return [Side(program.name, program.name, against, program) for program in rig.programs]

    @asynccontextmanager
    async def ground(self, rig: Rig) -> AsyncIterator[Rig]:
        yield rig

    async def run(self, side: Side, ground: Rig, folder: Path) -> Sample:
        assert side.program is not None
        async with (
            task_chain(ground.anvil, folder) as chain,
            local_api() as (api_url, arrivals),
            daemon(side.program, tables(chain, Choice(api_url, _CONCURRENCY)), folder) as running,
        ):
            points: list[Point] = [(0.0, running.ready.usage.resident_mib)]
            for part in range(1, _PARTS + 1):
                await chain.submit(self.tasks // _PARTS)
                await chain.mine()
                await chain.chain.mine(CONFIRMATIONS)
                if not await arrivals.wait(self.tasks // _PARTS * part, _PART_TIMEOUT_S):
                    raise Failed(f"{arrivals.posts} POSTs came: {running.child.log_end()}")
                points.append((float(arrivals.posts), running.child.usage().resident_mib))
            usage = running.child.usage()
        values = {
            "resident_mib": usage.resident_mib,
            "ready_mib": points[0][1],
            "first_mib": points[1][1],
            "growth": usage.resident_mib / points[1][1],
            "children_mib": usage.children_mib,
        }
        return Sample(values, self.tasks // _PARTS * _PARTS, arrivals.posts, {"resident": points})

    def check(self, side: Side, sample: Sample) -> None:
        check_done(side, sample)
