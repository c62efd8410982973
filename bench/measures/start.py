"""The start: CPU, time and memory of a daemon at READY=1, with a new ledger and with that of the start before."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Aim, Curve, Figure, Sample, Side, check_done
from bench.program import Ready, daemon
from bench.rig import Rig
from bench.settings import Choice, tables
from bench.task_chain import TaskChain, task_chain

_TASKS = 20
_NO_SERVER = "http://127.0.0.1:9"


@dataclass(frozen=True, slots=True)
class Start:
    """`watcher run` as a service manager starts it, with two hook workers and an API without a server."""

    program: str = "watcher"

    name = "start"
    title = "start: to READY"
    figures = (
        Figure("restart_cpu_s", "restart: CPU s", 2),
        Figure("restart_s", "restart: s", 2),
        Figure("new_cpu_s", "new ledger: CPU s", 2),
        Figure("new_s", "new ledger: s", 2),
        Figure("resident_mib", "resident MiB", 1),
        Figure("children_mib", "of its children", 1),
    )
    curves: Sequence[Curve] = ()

    @property
    def aims(self) -> Sequence[Aim]:
        return (Aim(self.program, "restart_cpu_s", "value", 1.2), Aim(self.program, "resident_mib", "value", 75.0))

    def sides(self, rig: Rig) -> Sequence[Side]:
        against = rig.programs[-1].name if len(rig.programs) > 1 else ""
        return [Side(program.name, program.name, against, program) for program in rig.programs]

    @asynccontextmanager
    async def ground(self, rig: Rig) -> AsyncIterator[TaskChain]:
        async with task_chain(rig.anvil, rig.folder) as chain:
            await chain.create(_TASKS, _TASKS)
            yield chain

    async def run(self, side: Side, ground: TaskChain, folder: Path) -> Sample:
        assert side.program is not None
        starts: list[Ready] = []
        for _ in range(2):
            async with daemon(side.program, tables(ground, Choice(_NO_SERVER)), folder) as running:
                starts.append(running.ready)
        new, restart = starts
        values = {
            "restart_cpu_s": restart.usage.cpu_s,
            "restart_s": restart.took_s,
            "new_cpu_s": new.usage.cpu_s,
            "new_s": new.took_s,
            "resident_mib": restart.usage.resident_mib,
            "children_mib": restart.usage.children_mib,
        }
        return Sample(values, expected=2, done=len(starts))

    def check(self, side: Side, sample: Sample) -> None:
        check_done(side, sample)
