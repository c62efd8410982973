"""What it takes to move a ledger from SQLite to PostgreSQL and back, proven and verified at each step.

    python -m bench.moving [TASKS]

A daemon answers the tasks of a local chain. Then each step is a command of its own, as an operator gives it: its time,
its CPU and its largest memory are those of its process. The proof reads every task of the contract again; the server's
own CPU is not counted.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import create_engine, text

from bench.errors import Failed
from bench.ledger_reading import ledger_reading
from bench.postgres import database, server
from bench.program import PASSWORD, Program, daemon
from bench.server import local_api
from bench.settings import LEDGER_FILE, Choice, tables
from bench.task_chain import task_chain
from watcher.devnet.anvil_binary import find_anvil

_TASKS = 10_000
_PER_BLOCK = 1_000
_TASKS_A_SECOND = 20  # the slowest daemon that is waited for
_CONCURRENCY, _SPAN_BLOCKS = 32, 10


@dataclass(frozen=True, slots=True)
class Step:
    """A command that has succeeded: wall and CPU seconds, and the largest resident size."""

    name: str
    seconds: float
    cpu_s: float
    resident_mib: float


@dataclass(frozen=True, slots=True)
class Commands:
    """The commands of one folder with a configuration."""

    program: Program
    folder: Path

    def run(self, name: str, ledger_url: str, *arguments: str) -> Step:
        """Run a command of the watcher. Raises Failed if it does not exit with 0."""
        began_s = time.monotonic()
        environment = {**os.environ, "WATCHER_OPERATOR__PASSWORD": PASSWORD, "WATCHER_LEDGER__URL": ledger_url}
        with (self.folder / "output").open("w+b") as output:
            process = subprocess.Popen(
                self.program.command(*arguments), cwd=self.folder, env=environment, stdout=output, stderr=output
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            if process.returncode:
                raise Failed(
                    f"{name}: exit code {process.returncode}: {output.read()[-1000:].decode(errors='replace')}"
                )
        cpu_s, resident_mib = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
        return Step(name, round(time.monotonic() - began_s, 1), round(cpu_s, 1), round(resident_mib))


async def measure(program: Program, tasks: int, postgres_url: str, folder: Path) -> dict[str, object]:
    """Return the steps of a ledger with so many tasks. Raises Failed if one of them fails."""
    sqlite_url = f"sqlite:///{folder / LEDGER_FILE}"
    async with task_chain(await find_anvil(None), folder) as chain, local_api() as (api_url, _):
        blocks = -(-tasks // _PER_BLOCK)
        for _ in range(blocks):
            await chain.submit(tasks // blocks)
            await chain.mine()
        await chain.chain.mine(2)
        made = tasks // blocks * blocks
        began_s = time.monotonic()
        async with daemon(program, tables(chain, Choice(api_url, _CONCURRENCY, span_blocks=_SPAN_BLOCKS)), folder):
            async with ledger_reading(sqlite_url) as ledger:
                await ledger.until("accepted", made, made / _TASKS_A_SECOND + 60)
            answered_s = time.monotonic() - began_s
        commands = Commands(program, folder)
        steps = await asyncio.to_thread(lambda: list(_steps(commands, sqlite_url, postgres_url)))
    return {
        "tasks": made,
        "answered_in_s": round(answered_s),
        "sqlite_mib": round((folder / LEDGER_FILE).stat().st_size / 2**20),
        "postgresql_mib": _database_mib(postgres_url),
        "steps": [asdict(step) for step in steps],
    }


def _steps(commands: Commands, sqlite_url: str, postgres_url: str) -> Iterator[Step]:
    """Verify, move with a proof before and after, verify; and the same on the way back."""
    verify, prove = ("audit", "verify"), ("prove",)
    yield _printed(commands.run("verify on SQLite", sqlite_url, *verify))
    yield _printed(commands.run("prove on SQLite", sqlite_url, *prove))
    yield _printed(commands.run("copy to PostgreSQL", sqlite_url, "db", "copy", sqlite_url, postgres_url))
    yield _printed(commands.run("verify on PostgreSQL", postgres_url, *verify))
    yield _printed(commands.run("prove on PostgreSQL", postgres_url, *prove))
    yield _printed(commands.run("copy back to SQLite", postgres_url, "db", "copy", postgres_url, sqlite_url))
    yield _printed(commands.run("verify on SQLite, back", sqlite_url, *verify))
    yield _printed(commands.run("prove on SQLite, back", sqlite_url, *prove))


def _printed(step: Step) -> Step:
    print(f"{step.name}: {step.seconds} s, CPU {step.cpu_s} s, {step.resident_mib} MiB", file=sys.stderr, flush=True)
    return step


def _database_mib(url: str) -> int:
    engine = create_engine(url)
    with closing(engine.connect()) as connection:
        size = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
    engine.dispose()
    return round(int(size) / 2**20)


def main() -> None:
    """Print the figures as JSON."""
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else _TASKS
    with tempfile.TemporaryDirectory(prefix="moving-") as folder, server() as server_url, database(server_url) as url:
        print(
            json.dumps(
                asyncio.run(measure(Program("watcher", Path(sys.executable)), tasks, url, Path(folder))), indent=1
            )
        )


if __name__ == "__main__":
    main()
