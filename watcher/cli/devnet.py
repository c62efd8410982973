"""`watcher devnet`: a local chain, contract, operators and an emulator of the hosted API, to try things on."""

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from watcher.daemon import log
from watcher.devnet.conventions import Name

if TYPE_CHECKING:
    from watcher.devnet.world import Devnet


def devnet(
    directory: Annotated[Path, typer.Option(help="Where logs, the chain's state and watcher.toml go.")] = Path(
        "devnet"
    ),
    anvil: Annotated[
        Path | None, typer.Option(envvar="WATCHER_ANVIL", help="The anvil program; found or fetched otherwise.")
    ] = None,
    block_time: Annotated[float, typer.Option(min=0.1, help="Seconds between blocks.")] = 1.0,
    window: Annotated[int, typer.Option(min=1, help="Blocks in which a task may be answered.")] = 100,
    operators: Annotated[int, typer.Option(min=1, max=50, help="How many operators sign.")] = 3,
    convention: Annotated[Name, typer.Option(help="The ABI of the task manager.")] = "wizard",
    rpc_port: Annotated[int, typer.Option(min=0, max=65_535, help="Where the chain listens; 0 takes a free port.")] = 0,
    api_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Where the hosted API listens; 0 takes a free port.")
    ] = 0,
    tasks_every: Annotated[float, typer.Option(min=0, help="Make a task every so many seconds; 0 makes none.")] = 0,
) -> None:
    """Run the devnet until Ctrl-C. The hosted operator in it is an emulator, not AltLayer's service."""
    log.set_up()
    from watcher.devnet.world import Devnet, DevnetOptions

    options = DevnetOptions(
        anvil=anvil,
        directory=directory,
        mining=block_time,
        convention=convention,
        window_blocks=window,
        operators=operators,
        rpc_port=rpc_port,
        api_port=api_port,
        persist=False,
    )

    async def main() -> None:
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        async with Devnet(options) as net:
            toml = net.toml(ledger_url=f"sqlite:///{directory.absolute() / 'watcher.db'}")
            (directory / "watcher.toml").write_text(toml, encoding="utf-8")
            typer.echo(f"# written to {directory / 'watcher.toml'}; EMULATED hosted operator, for tests only\n{toml}")
            for name, value in net.environment.items():
                typer.echo(f"# export {name}={value}")
            typer.echo(
                f"# the hook {net.convention.hook} is an example of the source tree (examples/): set hook.app_dir to "
                "its folder, or write one of your own (README.md has one)"
            )
            making = asyncio.create_task(_make_tasks(net, tasks_every)) if tasks_every else None
            await stopped.wait()
            if making is not None:
                making.cancel()

    asyncio.run(main())


async def _make_tasks(net: "Devnet", every_s: float) -> None:
    number = 0
    while True:
        number += 1
        await net.create_tasks([net.convention.question(number)])
        await asyncio.sleep(every_s)
