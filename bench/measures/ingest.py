"""The ingest: all tasks of a chain into an empty ledger."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.indexer import PEER, run_ponder
from bench.ledger_reading import ledger_reading
from bench.measure import Aim, Curve, Figure, Sample, Side, check_done
from bench.program import Program, daemon
from bench.rig import Rig
from bench.script import SPAN_BLOCKS, run_script, spec_of
from bench.settings import LEDGER_FILE, Choice, tables
from bench.task_chain import TaskChain, task_chain

_TASKS_PER_BLOCK = 20
# So many that nothing but the ingest is due, and the newest tasks of Ponder are below its finality.
_EMPTY_BLOCKS = 70
_CONFIRMATIONS = 10_000
_FINISH_TIMEOUT_S = 180
_NAIVE, _PONDER = "naive script", "Ponder"


@dataclass(frozen=True, slots=True)
class Ground:
    """What the runs share: the chain, and where environments are."""

    chain: TaskChain
    cache: Path


@dataclass(frozen=True, slots=True)
class Ingest:
    """The watch stage of a daemon against the naive script and Ponder. The daemon answers nothing meanwhile."""

    tasks: int
    program: str = "watcher"

    name = "ingest"
    title = "ingest: chain to ledger"
    figures = (Figure("per_s", "tasks/s"), Figure("cpu_us", "CPU us/task", 1), Figure("resident_mib", "resident MiB"))
    curves: Sequence[Curve] = ()

    @property
    def aims(self) -> Sequence[Aim]:
        return (Aim(self.program, "per_s", "times", 12.0, at_least=True),)

    def sides(self, rig: Rig) -> Sequence[Side]:
        if not rig.with_peers:
            return [Side(program.name, program.name, rig.programs[1].name, program) for program in rig.programs]
        program = rig.programs[0]
        ponder = Side(_PONDER, _PONDER, _NAIVE, peer=PEER)
        return [Side(program.name, program.name, _NAIVE, program), Side(_NAIVE, _NAIVE), ponder]

    @asynccontextmanager
    async def ground(self, rig: Rig) -> AsyncIterator[Ground]:
        async with task_chain(rig.anvil, rig.folder) as chain:
            await chain.create(self.tasks, _TASKS_PER_BLOCK)
            await chain.chain.mine(_EMPTY_BLOCKS)
            yield Ground(chain, rig.cache)

    async def run(self, side: Side, ground: Ground, folder: Path) -> Sample:
        if side.program is not None:
            return await self._watcher(side.program, ground.chain, folder)
        if side.peer:
            ponder = await run_ponder(ground.chain, self.tasks, ground.cache, folder)
            return self._sample(self.tasks, ponder.wall_s, ponder.cpu_s, {"resident_mib": ponder.resident_mib})
        script = await run_script(spec_of(ground.chain), folder)
        return self._sample(script.tasks, script.wall_s, script.cpu_s, {})

    async def _watcher(self, program: Program, chain: TaskChain, folder: Path) -> Sample:
        """Measure from READY=1, before which the daemon reads its first span, to the commit of the last task."""
        settings = tables(chain, Choice(confirmations=_CONFIRMATIONS, span_blocks=SPAN_BLOCKS // 2))
        async with (
            daemon(program, settings, folder) as running,
            ledger_reading(f"sqlite:///{folder / LEDGER_FILE}") as ledger,
        ):
            await ledger.until("seen", self.tasks, _FINISH_TIMEOUT_S)
            usage = running.child.usage()
            tasks = self.tasks - ledger.seen_by(running.ready.at_s)
            wall_s = ledger.last_s("seen") - running.ready.at_s
            done = ledger.count("seen")
        cpu_s = usage.cpu_s - running.ready.usage.cpu_s
        sample = self._sample(tasks, wall_s, cpu_s, {"resident_mib": usage.resident_mib})
        return Sample(sample.values, self.tasks, done)

    def _sample(self, tasks: int, wall_s: float, cpu_s: float, others: dict[str, float]) -> Sample:
        values = {"per_s": tasks / wall_s, "cpu_us": cpu_s / tasks * 1e6, **others}
        return Sample(values, self.tasks, tasks)

    def check(self, side: Side, sample: Sample) -> None:
        check_done(side, sample)
