"""Where the CPU of a burst goes: `python -m bench.profile [--tasks N] [--concurrency N] [--publish]` prints a table.

The daemon runs with clocks around its parts (`bench/profile_child.py`): no sampling, no other program. The clocks cost
CPU themselves, so the last line names the cost without them, of the same burst.
"""

import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from bench.errors import Failed
from bench.ledger_reading import ledger_reading
from bench.machine import ROOT, conditions, current_commit, load
from bench.page import PAGE, with_text
from bench.process import Child
from bench.program import Program, daemon
from bench.server import local_api
from bench.settings import LEDGER_FILE, Choice, tables
from bench.task_chain import CONFIRMATIONS, task_chain
from watcher.devnet.anvil_binary import find_anvil

_TIMEOUT_S = 600
_POLL_S = 0.02
_LEAST_US = 1.0  # a part below that is not listed
_MAIN, _WRITER = "MainThread", "ledger-writer"
_THREADS = {_MAIN: "event loop", _WRITER: "the ledger's writer"}
_READERS = "threads that read the ledger"
_REST = {_MAIN: "asyncio itself: its loop, epoll, timers", _WRITER: "around the verbs: batches, transactions"}
_BEGIN, _END = "<!-- profile: written by `python -m bench.profile --publish` -->", "<!-- end of profile -->"

Counts = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Profiled(Program):
    """The watcher with clocks."""

    def command(self, *arguments: str) -> tuple[str, ...]:
        return (str(self.python), "-m", "bench.profile_child", *arguments)


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds between two moments: by thread and part (empty without clocks), of the daemon, of the workers."""

    counts: Counts
    daemon_s: float
    workers_s: float


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table: `part` is "" for a whole thread."""

    thread: str
    part: str
    cpu_s: float


async def burst(program: Program, tasks: int, concurrency: int, folder: Path) -> Spent:
    """Run a burst as `bench.measures.burst` does. Raises Failed."""
    file = folder / "profile.json"
    async with AsyncExitStack() as stack:
        chain = await stack.enter_async_context(task_chain(await find_anvil(None), folder))
        api_url, arrivals = await stack.enter_async_context(local_api())
        environment = {"PYTHONPATH": str(ROOT), "PROFILE_FILE": str(file)}
        settings = tables(chain, Choice(api_url, concurrency))
        running = await stack.enter_async_context(daemon(program, settings, folder, environment))
        await chain.submit(tasks)
        is_clocked = isinstance(program, Profiled)
        before, rest = await _counts(running.child, file) if is_clocked else {}, running.child.usage()
        await chain.mine()
        await chain.chain.mine(CONFIRMATIONS)
        if not await arrivals.wait(tasks, _TIMEOUT_S):
            raise Failed(f"{arrivals.posts} of {tasks} POSTs came: {running.child.log_end()}")
        async with ledger_reading(f"sqlite:///{folder / LEDGER_FILE}") as ledger:
            await ledger.until("accepted", tasks, _TIMEOUT_S)
        usage = running.child.usage()
        after = await _counts(running.child, file) if is_clocked else {}
    spent = {
        thread: {part: cpu_s - before.get(thread, {}).get(part, 0.0) for part, cpu_s in parts.items()}
        for thread, parts in after.items()
    }
    return Spent(spent, usage.cpu_s - rest.cpu_s, usage.children_cpu_s - rest.children_cpu_s)


async def _counts(child: Child, file: Path) -> Counts:
    """Return the counts of a daemon with clocks."""
    file.unlink(missing_ok=True)
    child.process.send_signal(signal.SIGUSR1)
    while not file.exists():
        child.require_running()
        await asyncio.sleep(_POLL_S)
    counts: Counts = json.loads(file.read_bytes())
    return counts


def lines(counts: Counts) -> Iterator[Line]:
    """Yield each thread with its parts, the largest first; threads other than loop and writer are one."""
    for name, title in _THREADS.items():
        parts = dict(counts.get(name, {}))
        whole_s = parts.pop("", 0.0)
        parts[_REST[name]] = whole_s - sum(parts.values())
        yield Line(title, "", whole_s)
        yield from (Line(title, part, cpu_s) for part, cpu_s in sorted(parts.items(), key=lambda item: -item[1]))
    yield Line(_READERS, "", sum(parts[""] for name, parts in counts.items() if name not in _THREADS))


def table(counts: Counts, tasks: int) -> Sequence[str]:
    """Return the table in Markdown."""
    all_s = sum(parts[""] for parts in counts.values())
    rows = ["| part | CPU us/task | share |", "| --- | ---: | ---: |"]
    for line in lines(counts):
        us = line.cpu_s / tasks * 1e6
        if us >= _LEAST_US or not line.part:
            name = line.part or f"**{line.thread}**"
            rows.append(f"| {name} | {us:,.0f} | {line.cpu_s / all_s:.1%} |")
    return rows


def report(clocked: Spent, plain: Spent, tasks: int, concurrency: int) -> str:
    """Return the table, and where it comes from. `plain` is the same burst without clocks."""
    clocked_us, plain_us, workers_us = (
        cpu_s / tasks * 1e6 for cpu_s in (clocked.daemon_s, plain.daemon_s, plain.workers_s)
    )
    now = conditions(current_commit(), load())
    origin = f"{now.date}, commit {now.commit}, {now.cores} cores, load {now.load_after}"
    cost = f"{clocked_us:,.0f} us with the clocks, {plain_us:,.0f} without, and the hook's workers {workers_us:,.0f}"
    burst_of = f"{tasks:,} tasks, {concurrency} at a time."
    return "\n".join([*table(clocked.counts, tasks), "", f"{origin}; {burst_of}", f"A task cost the daemon {cost}."])


def main(
    tasks: Annotated[int, typer.Option(min=1, help="Tasks present at once.")] = 8_000,
    concurrency: Annotated[int, typer.Option(min=1, help="[operator] concurrency.")] = 32,
    publish: Annotated[bool, typer.Option("--publish", help="Write the table into docs/, too.")] = False,
) -> None:
    """Print where the CPU of a burst goes."""

    async def run(program: Program) -> Spent:
        with tempfile.TemporaryDirectory(prefix="bench-profile-") as folder:
            return await burst(program, tasks, concurrency, Path(folder))

    python = Path(sys.executable)
    clocked = asyncio.run(run(Profiled("watcher with clocks", python)))
    plain = asyncio.run(run(Program("watcher", python)))
    text = report(clocked, plain, tasks, concurrency)
    print(text)
    if publish:
        PAGE.write_text(with_text(PAGE.read_text(encoding="utf-8"), _BEGIN, text, _END), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
