"""Replicas that share a ledger on PostgreSQL: their rate together, and the time until another leads."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.errors import Failed
from bench.ledger_reading import ledger_reading
from bench.measure import Aim, Curve, Figure, Sample, Side, check_done
from bench.postgres import database, server
from bench.program import Daemon, daemon
from bench.rig import Rig
from bench.server import Arrivals, local_api
from bench.settings import Choice, tables
from bench.task_chain import CONFIRMATIONS, TaskChain, task_chain

_COUNTS = (1, 2, 3, 4)
_SCALED, _SCALE = 3, 1.8  # three replicas do at least so many times what one does, where they wait for hook and API
_API_DELAY_S = 0.1
_CONCURRENCY = 32
_FINISH_TIMEOUT_S = 300
_TAKEOVER_TIMEOUT_S = 60
_TAKEOVER_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class _Ground:
    """The binary of the chain, and the server of the ledgers."""

    anvil: Path
    postgres_url: str


@dataclass(slots=True)
class _Group:
    """Running replicas, the chain they watch, and the API they send to."""

    chain: TaskChain
    arrivals: Arrivals
    ledger_url: str
    daemons: Sequence[Daemon]


@asynccontextmanager
async def _ground(rig: Rig) -> AsyncIterator[_Ground]:
    with server() as url:
        yield _Ground(rig.anvil, url)


@asynccontextmanager
async def _group(
    side: Side, ground: _Ground, folder: Path, count: int, hook: str = "trivial", delay_s: float = 0.0
) -> AsyncIterator[_Group]:
    """Run so many replicas with every role; the first one leads. Each reply of the API takes `delay_s`."""
    assert side.program is not None
    async with AsyncExitStack() as stack:
        chain = await stack.enter_async_context(task_chain(ground.anvil, folder))
        api_url, arrivals = await stack.enter_async_context(local_api(delay_s))
        url = stack.enter_context(database(ground.postgres_url))
        settings = tables(chain, Choice(api_url, _CONCURRENCY, ledger_url=url, hook=hook))
        daemons = []
        for number in range(count):
            own = folder / f"replica-{number}"
            own.mkdir()
            daemons.append(await stack.enter_async_context(daemon(side.program, settings, own)))
        yield _Group(chain, arrivals, url, daemons)


@dataclass(frozen=True, slots=True)
class ReplicaBurst:
    """Tasks present all at once, for one to four replicas.

    With `waits`, hook and API take their time without CPU, as another service does: the rate of a process is that of
    its workers, which is what further replicas are for. Without, all processes share the CPUs of one machine.
    """

    name: str
    title: str
    tasks: int
    waits: bool
    program: str = "watcher"

    figures = (Figure("per_s", "tasks/s"), Figure("cpu_us", "CPU us/task, all replicas"))
    curves: Sequence[Curve] = ()

    @property
    def aims(self) -> Sequence[Aim]:
        if not self.waits:
            return ()
        return (Aim(_side(self.program, _SCALED), "per_s", "times", _SCALE, at_least=True),)

    def sides(self, rig: Rig) -> Sequence[Side]:
        return [
            Side(
                _side(program.name, count), program.name, _side(program.name, 1) if count > 1 else "", program, x=count
            )
            for program in rig.programs
            for count in _COUNTS
        ]

    def ground(self, rig: Rig) -> AbstractAsyncContextManager[_Ground]:
        return _ground(rig)

    async def run(self, side: Side, ground: _Ground, folder: Path) -> Sample:
        hook, delay_s = ("slow", _API_DELAY_S) if self.waits else ("trivial", 0.0)
        async with _group(side, ground, folder, int(side.x), hook, delay_s) as group:
            await group.chain.submit(self.tasks)
            await group.chain.mine()
            began_s = time.monotonic()
            await group.chain.chain.mine(CONFIRMATIONS)
            await group.arrivals.wait(self.tasks, _FINISH_TIMEOUT_S)
            async with ledger_reading(group.ledger_url) as ledger:
                await ledger.until("accepted", self.tasks, _FINISH_TIMEOUT_S)
                wall_s = ledger.last_s("accepted") - began_s
            cpu_s = sum(each.child.usage().cpu_s - each.ready.usage.cpu_s for each in group.daemons)
            values = {"per_s": self.tasks / wall_s, "cpu_us": cpu_s / self.tasks * 1e6}
            return Sample(values, self.tasks, group.arrivals.posts)

    def check(self, side: Side, sample: Sample) -> None:
        check_done(side, sample)


@dataclass(frozen=True, slots=True)
class Takeover:
    """From the SIGKILL of the leader to the POST of a task that was created right after it."""

    program: str = "watcher"

    name = "takeover"
    title = "takeover: from SIGKILL of the leader to the next POST"
    figures = (Figure("takeover_s", "s", 2),)
    curves: Sequence[Curve] = ()

    @property
    def aims(self) -> Sequence[Aim]:
        return (Aim(self.program, "takeover_s", "value", _TAKEOVER_LIMIT_S),)

    def sides(self, rig: Rig) -> Sequence[Side]:
        against = rig.programs[-1].name if len(rig.programs) > 1 else ""
        return [Side(program.name, program.name, against, program) for program in rig.programs]

    def ground(self, rig: Rig) -> AbstractAsyncContextManager[_Ground]:
        return _ground(rig)

    async def run(self, side: Side, ground: _Ground, folder: Path) -> Sample:
        async with _group(side, ground, folder, 2) as group:
            leader = group.daemons[0].child
            leader.process.kill()
            killed_s = time.monotonic()
            await group.chain.create(1, 1)
            if not await group.arrivals.wait(1, _TAKEOVER_TIMEOUT_S):
                raise Failed(f"{side.name}: no replica took over within {_TAKEOVER_TIMEOUT_S} s")
            return Sample({"takeover_s": group.arrivals.at_s[0] - killed_s}, 1, group.arrivals.posts)

    def check(self, side: Side, sample: Sample) -> None:
        check_done(side, sample)


def _side(program: str, count: int) -> str:
    return f"{program}, {count} replica{'s' if count > 1 else ''}"
