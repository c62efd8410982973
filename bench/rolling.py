"""Two versions of the watcher on one database, as while daemons are replaced one by one.

    python -m bench.rolling REVISION

A daemon of the revision answers tasks, today's starts beside it and upgrades the schema, both run, the old one stops,
and is started once more, as for a way back. At the end today's commands verify the ledger and prove it.
"""

import asyncio
import json
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from bench.errors import Failed
from bench.ledger_reading import ledger_reading
from bench.machine import ROOT
from bench.moving import Commands
from bench.postgres import database, server
from bench.program import Program, daemon
from bench.revision import program_at
from bench.server import local_api
from bench.settings import Choice, tables
from bench.task_chain import task_chain
from watcher.devnet.anvil_binary import find_anvil

_TASKS, _PER_BLOCK = 40, 5
_TIMEOUT_S = 120


async def roll(before: Program, today: Program, url: str, folder: Path) -> dict[str, object]:
    """Return what became of the tasks of each phase. Raises Failed if one of them is not answered in time."""
    folders = {name: folder / name for name in ("before", "today", "back")}
    for each in folders.values():
        each.mkdir()
    phases: dict[str, object] = {}
    async with AsyncExitStack() as stack:
        chain = await stack.enter_async_context(task_chain(await find_anvil(None), folder))
        api_url, arrivals = await stack.enter_async_context(local_api())
        settings = tables(chain, Choice(api_url, ledger_url=url))

        async def answer(phase: str) -> None:
            made = len(arrivals.at_s) + _TASKS
            await chain.create(_TASKS, _PER_BLOCK)
            if not await arrivals.wait(made, _TIMEOUT_S):
                raise Failed(f"{phase}: {len(arrivals.at_s)} of {made} tasks were answered")
            async with ledger_reading(url) as ledger:
                await ledger.until("accepted", made, _TIMEOUT_S)
            phases[phase] = {"answered": len(arrivals.at_s), "posts": arrivals.posts}

        async with AsyncExitStack() as old:
            running = await old.enter_async_context(daemon(before, settings, folders["before"]))
            await answer("the old one alone")
            await stack.enter_async_context(daemon(today, settings, folders["today"]))
            await answer("both")
            phases["the old one beside"] = "runs" if running.child.running else running.child.log_end()[-300:]
        await answer("today's alone")
        try:
            async with daemon(before, settings, folders["back"]):
                await answer("both, after a way back")
        except Failed as error:
            phases["the way back"] = str(error)[-300:]
        await answer("today's at the end")
        commands = Commands(today, folders["today"])
        for arguments in (("audit", "verify"), ("prove",), ("db", "check")):
            await asyncio.to_thread(commands.run, " ".join(arguments), url, *arguments)
        phases["verified, proven, checked"] = True
    return phases


def main() -> None:
    """Print the phases as JSON."""

    async def run(url: str, folder: Path) -> dict[str, object]:
        before = await program_at(sys.argv[1], ROOT / ".bench")
        return await roll(before, Program("today", Path(sys.executable)), url, folder)

    with tempfile.TemporaryDirectory(prefix="rolling-") as folder, server() as server_url, database(server_url) as url:
        print(json.dumps(asyncio.run(run(url, Path(folder))), indent=1))


if __name__ == "__main__":
    main()
