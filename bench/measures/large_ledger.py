"""The growth: what a daemon and a command cost on a ledger of ten thousand tasks, and of a million."""

import asyncio
import resource
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.errors import Failed
from bench.grown import grown
from bench.measure import Aim, Curve, Figure, Sample, Side, check_done
from bench.measures.latency import mine_tasks, percentile, warm_up
from bench.process import Child
from bench.program import Program, daemon
from bench.rig import Rig
from bench.server import local_api
from bench.settings import Choice, tables
from bench.task_chain import TaskChain
from watcher.devnet.chain import keep

_BLOCKS, _REORGS = 10, 3
_PAUSE_S = 0.2
_COMMAND_TIMEOUT_S = 120
# A daemon at rest takes 0.02 s of CPU each second.
_AT_REST_CPU_S = 0.1
_REST_LIMIT_S = 300
_MOST = 1.5  # times the smallest ledger
Ground = dict[int, tuple[Path, TaskChain]]  # by size: the ledger's folder, and its chain


@dataclass(frozen=True, slots=True)
class LargeLedger:
    """Ledgers of several sizes, whose tasks are final; each is compared with the smallest."""

    ledger_sizes: Sequence[int]

    name = "growth"
    title = "growth: the same work on larger ledgers"
    figures = (
        Figure("start_cpu_s", "start: CPU s", 2),
        Figure("start_s", "start: s", 2),
        Figure("single_p50", "block to POST: p50 ms", 1),
        Figure("reorg_ms", "after a reorg: p50 ms", 1),
        Figure("empty_ms", "CPU ms/empty block", 1),
        Figure("list_cpu_s", "list of open tasks: CPU s", 2),
    )
    curves = (
        Curve("growth-start", "Start", "tasks in the ledger", "CPU s", figure="start_cpu_s", log_x=True),
        Curve("growth-latency", "Block to POST", "tasks in the ledger", "ms", figure="single_p50", log_x=True),
    )

    @property
    def aims(self) -> Sequence[Aim]:
        largest = _name(max(self.ledger_sizes))
        return tuple(Aim(largest, figure.key, "times", _MOST) for figure in self.figures)

    def sides(self, rig: Rig) -> Sequence[Side]:
        smallest, program = _name(min(self.ledger_sizes)), rig.programs[0]
        return [
            Side(_name(size), program.name, smallest if _name(size) != smallest else "", program, x=size)
            for size in self.ledger_sizes
        ]

    @asynccontextmanager
    async def ground(self, rig: Rig) -> AsyncIterator[Ground]:
        ledgers = await grown(rig.programs[0], rig.anvil, rig.cache)
        async with AsyncExitStack() as stack:
            chains: Ground = {}
            for size in self.ledger_sizes:
                folder = rig.folder / f"ledger-{size}"
                folder.mkdir()
                await asyncio.to_thread(ledgers.copy_ledger, size, folder)
                chain = await stack.enter_async_context(ledgers.chain(size, folder))
                chains[size] = folder, chain
                # The filler is no daemon: a clean stop comes before the starts that are measured.
                async with daemon(rig.programs[0], tables(chain, Choice()), folder):
                    pass
            yield chains

    async def run(self, side: Side, ground: Ground, folder: Path) -> Sample:
        """Start a daemon on the ledger of the size, which keeps what earlier runs added; `folder` stays empty."""
        assert side.program is not None
        folder, chain = ground[int(side.x)]
        async with local_api() as (api_url, arrivals):
            settings = tables(chain, Choice(api_url, confirmations=0))
            async with daemon(side.program, settings, folder) as running:
                await warm_up(chain, arrivals)
                single = [await mine_tasks(chain, arrivals, 1) for _ in range(_BLOCKS)]
                reorg: list[float] = []
                for _ in range(_REORGS):
                    await chain.chain.reorg(1, keep)  # the block with the last task
                    reorg += await mine_tasks(chain, arrivals, 1)
                await _until_at_rest(running.child)
                empty_ms = await _empty_block_ms(chain, running.child)
                list_cpu_s = await asyncio.to_thread(_list_cpu_s, side.program, folder)
            ready = running.ready
        times_ms = [milliseconds for block in single for milliseconds in block]
        values = {
            "start_cpu_s": ready.usage.cpu_s,
            "start_s": ready.took_s,
            "single_p50": percentile(times_ms, 50),
            "reorg_ms": percentile(reorg, 50),
            "empty_ms": empty_ms,
            "list_cpu_s": list_cpu_s,
        }
        return Sample(values, _BLOCKS + _REORGS, len(times_ms) + len(reorg))

    def check(self, side: Side, sample: Sample) -> None:
        check_done(side, sample)


def _name(size: int) -> str:
    return f"{size:,} tasks"


async def _until_at_rest(running: Child) -> None:
    """Wait until the check of the whole file, which goes on behind a start, is over. Raises Failed."""
    for _ in range(_REST_LIMIT_S):
        used_s = running.usage().cpu_s
        await asyncio.sleep(1)
        if running.usage().cpu_s - used_s < _AT_REST_CPU_S:
            return
    raise Failed(f"the daemon has not come to rest within {_REST_LIMIT_S} s")


async def _empty_block_ms(chain: TaskChain, running: Child) -> float:
    """Return the CPU of a block without tasks, in ms, without that of the same time without blocks."""
    used_s = [running.usage().cpu_s]
    for with_blocks in (False, True):
        for _ in range(_BLOCKS):
            if with_blocks:
                await chain.mine()
            await asyncio.sleep(_PAUSE_S)
        used_s.append(running.usage().cpu_s)
    start_s, rest_s, end_s = used_s
    return ((end_s - rest_s) - (rest_s - start_s)) * 1000 / _BLOCKS


def _list_cpu_s(program: Program, folder: Path) -> float:
    """Return the CPU seconds of `watcher tasks list` of the tasks that are still open. Raises Failed."""
    command = program.command("tasks", "list", "--state", "accepted", "--json", "--config", "watcher.toml")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=_COMMAND_TIMEOUT_S, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise Failed(f"watcher tasks list ended with {done.returncode}: {done.stderr.decode()[-500:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
