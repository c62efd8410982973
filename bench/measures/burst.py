"""The burst: tasks present all at once, until the last outcome is committed."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import shim
from bench.errors import Unavailable
from bench.ledger_reading import ledger_reading
from bench.measure import Aim, Curve, Figure, Sample, Side, check_done
from bench.postgres import database, server
from bench.process import Usage
from bench.program import Daemon, daemon
from bench.rig import Rig
from bench.script import run_script, spec_of
from bench.server import Arrivals, local_api
from bench.settings import LEDGER_FILE, Choice, tables
from bench.task_chain import CONFIRMATIONS, task_chain

_TASKS_PER_BLOCK = 500
_FINISH_TIMEOUT_S = 300
_NAIVE = "naive script"
FIGURES = (
    Figure("per_s", "tasks/s"),
    Figure("cpu_us", "CPU us/task"),
    Figure("children_cpu_us", "of its hook workers"),
    Figure("resident_mib", "resident MiB"),
)


@dataclass(frozen=True, slots=True)
class Ground:
    """What the runs share: the environment of both sides, and the server of the ledgers ("": SQLite)."""

    anvil: Path
    environment: Mapping[str, str]
    postgres_url: str = ""


@dataclass(frozen=True, slots=True)
class Began:
    """The moment (monotonic, in seconds) at which the tasks can be read, and what a daemon had used at rest before."""

    at_s: float
    rest: Usage


@dataclass(frozen=True, slots=True)
class Burst:
    """All stages of a daemon against the naive script.

    Attributes:
        name: the name for --only.
        title: the title of the table.
        tasks: present at once; as many for the script.
        concurrencies: [operator] concurrency of each side; 0: the default.
        fsync_ms: added to each fsync, in ms.
        postgres: the watcher's ledger is on PostgreSQL.
    """

    name: str
    title: str
    tasks: int
    concurrencies: Sequence[int]
    fsync_ms: float = 0.0
    postgres: bool = False
    aims: Sequence[Aim] = ()
    curves: Sequence[Curve] = ()
    figures: Sequence[Figure] = field(default=FIGURES)

    def sides(self, rig: Rig) -> Sequence[Side]:
        sides = [
            Side(
                side_name(program.name, concurrency),
                program.name,
                _NAIVE if rig.with_peers else side_name(rig.programs[1].name, concurrency),
                program,
                x=concurrency,
            )
            for concurrency in self.concurrencies
            for program in rig.programs
        ]
        return [*sides, Side(_NAIVE, _NAIVE)] if rig.with_peers else sides

    @asynccontextmanager
    async def ground(self, rig: Rig) -> AsyncIterator[Ground]:
        async with AsyncExitStack() as stack:
            environment: Mapping[str, str] = {}
            if self.fsync_ms:
                environment = _slow_fsync(rig.folder, self.fsync_ms)
            url = stack.enter_context(server()) if self.postgres else ""
            yield Ground(rig.anvil, environment, url)

    async def run(self, side: Side, ground: Ground, folder: Path) -> Sample:
        if side.program is None:
            return await self._naive(ground, folder)
        async with AsyncExitStack() as stack:
            chain = await stack.enter_async_context(task_chain(ground.anvil, folder))
            api_url, arrivals = await stack.enter_async_context(local_api())
            url = stack.enter_context(database(ground.postgres_url)) if ground.postgres_url else ""
            settings = tables(chain, Choice(api_url, int(side.x), ledger_url=url))
            running = await stack.enter_async_context(daemon(side.program, settings, folder, ground.environment))
            await chain.submit(self.tasks)
            rest = running.child.usage()
            await chain.mine()
            began = Began(time.monotonic(), rest)
            await chain.chain.mine(CONFIRMATIONS)
            return await self._finish(running, arrivals, url or f"sqlite:///{folder / LEDGER_FILE}", began)

    async def _finish(self, running: Daemon, arrivals: Arrivals, ledger_url: str, began: Began) -> Sample:
        """Wait for the last outcome, and return the run's figures."""
        await arrivals.wait(self.tasks, _FINISH_TIMEOUT_S)
        running.child.require_running()
        async with ledger_reading(ledger_url) as ledger:
            await ledger.until("accepted", self.tasks, _FINISH_TIMEOUT_S)
            usage, rest = running.child.usage(), began.rest
            wall_s = ledger.last_s("accepted") - began.at_s
        values = {
            "per_s": self.tasks / wall_s,
            "cpu_us": (usage.whole_cpu_s - rest.whole_cpu_s) / self.tasks * 1e6,
            "children_cpu_us": (usage.children_cpu_s - rest.children_cpu_s) / self.tasks * 1e6,
            "resident_mib": usage.resident_mib,
        }
        return Sample(values, self.tasks, arrivals.posts)

    async def _naive(self, ground: Ground, folder: Path) -> Sample:
        async with task_chain(ground.anvil, folder) as chain, local_api() as (api_url, arrivals):
            await chain.create(self.tasks, _TASKS_PER_BLOCK)
            result = await run_script(spec_of(chain, api_url), folder, ground.environment)
        values = {"per_s": result.tasks / result.wall_s, "cpu_us": result.cpu_s / result.tasks * 1e6}
        return Sample(values, self.tasks, min(result.tasks, arrivals.posts))

    def check(self, side: Side, sample: Sample) -> None:
        check_done(side, sample)


def side_name(program: str, concurrency: int) -> str:
    """Return the name of a side: the program and its number of requests at a time."""
    return f"{program}, {concurrency} at a time" if concurrency else f"{program}, default"


def _slow_fsync(folder: Path, fsync_ms: float) -> Mapping[str, str]:
    """Return the variables of a child with slow fsyncs. Raises Unavailable."""
    try:
        return shim.environment(shim.build(folder), fsync_ms)
    except shim.NoShim as error:
        raise Unavailable(str(error)) from None
