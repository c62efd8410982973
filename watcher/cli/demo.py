"""`watcher demo`: the way of tasks on a local devnet, live, with a proof at the end."""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from watcher.daemon import log
from watcher.errors import TryLater

_TIME_LIMIT_S = 80.0


def demo(
    tasks: Annotated[int, typer.Option("--tasks", min=1, max=2000, help="Number of tasks.")] = 12,
    anvil: Annotated[
        Path | None, typer.Option(envvar="WATCHER_ANVIL", help="The anvil program; found or fetched otherwise.")
    ] = None,
) -> None:
    """Start a devnet and a real `watcher run`, make tasks in several blocks, follow them, prove the outcome."""
    log.set_up("warning")
    if not asyncio.run(_demo(tasks, anvil)):
        raise typer.Exit(1)


async def _demo(tasks: int, anvil: Path | None) -> bool:
    from rich.live import Live
    from rich.text import Text

    from watcher.cli.console import PlainConsole
    from watcher.cli.live import Show
    from watcher.cli.proof_table import print_proof
    from watcher.devnet.world import Devnet, DevnetOptions

    console = PlainConsole()
    with tempfile.TemporaryDirectory(prefix="watcher-demo-") as folder:
        options = DevnetOptions(anvil=anvil, directory=Path(folder), mining=0.5, persist=False)
        with console.status(Text("starting the devnet: anvil, task manager, 3 operators, emulated hosted operator")):
            net = Devnet(options)
            await net.start()
        try:
            console.print(f"chain {net.chain_id} at {net.rpc_url}, task manager {net.task_manager}")
            console.print(f"EMULATED hosted operator at {net.api_url}: real BLS signatures, verified by the contract")
            show = Show(net, Path(folder), tasks)
            async with show.daemon():
                with Live(show.table(), console=console, refresh_per_second=4) as live:
                    try:
                        async with asyncio.timeout(_TIME_LIMIT_S):
                            await show.follow(live.update)
                    except TimeoutError:
                        console.print(f"not every task was final within {_TIME_LIMIT_S:g} s")
            proof = await show.prove()
        except TryLater as error:
            console.print(f"{error}\n{show.log_tail()}")
            return False
        finally:
            await net.stop()
    console.print()
    print_proof(proof)
    return proof.ok and proof.answered_by_us == tasks and show.all_final
