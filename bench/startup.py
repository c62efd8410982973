"""CPU and memory of a daemon that starts: `python -m bench.startup`. Prints one line for each kind of start.

`watcher run` as a service manager starts it, against a local anvil with the devnet's contract, two hook workers and
an API without a server. Both figures are taken from /proc at the moment of READY=1. A new ledger costs its
migrations besides; a restart finds the ledger of the start before.
"""

import asyncio
import os
import signal
import socket
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from bench.rounds import Failed
from bench.run_spec import TaskChain
from bench.task_chain import anvil_chain, deploy_with_tasks

_READY_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Start:
    """One start: CPU seconds and resident MiB of the daemon, and resident MiB of its children together."""

    cpu_s: float
    resident_mib: float
    children_mib: float


async def measure(settings: Path) -> Start:
    """Start the daemon, read its figures at READY, and stop it.

    Raises:
        Failed: the daemon ends before it is ready.
        TimeoutError: the daemon is not ready, or does not stop, in time.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("")  # an abstract address, chosen by the kernel
        manager.setblocking(False)
        environment = {
            "PATH": os.environ["PATH"],
            "NOTIFY_SOCKET": "@" + manager.getsockname()[1:].decode(),
            "WATCHER_OPERATOR__PASSWORD": "not a secret",
        }
        with (settings.parent / "log").open("ab") as log:
            daemon = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "watcher", "run", "--config", settings.name),
                cwd=settings.parent,
                env=environment,
                stdout=log,
                stderr=log,
            )
        try:
            await _ready(manager, daemon)
            return _figures(daemon.pid)
        finally:
            if daemon.returncode is None:
                daemon.send_signal(signal.SIGTERM)
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await daemon.wait()


async def _ready(manager: socket.socket, daemon: asyncio.subprocess.Process) -> None:
    ended = asyncio.create_task(daemon.wait())
    async with asyncio.timeout(_READY_TIMEOUT_S):
        while True:
            message = asyncio.create_task(asyncio.get_running_loop().sock_recv(manager, 4096))
            await asyncio.wait([ended, message], return_when=asyncio.FIRST_COMPLETED)
            if not message.done():
                message.cancel()
                raise Failed(f"the daemon ended with {daemon.returncode} before it was ready")
            if b"READY=1" in message.result():
                ended.cancel()
                return


def _figures(pid: int) -> Start:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])  # utime and stime, proc(5)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return Start(
        ticks / os.sysconf("SC_CLK_TCK"), _resident_mib(pid), sum(_resident_mib(int(child)) for child in children)
    )


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _write_settings(folder: Path, task_chain: TaskChain) -> Path:
    folder.mkdir()
    settings = folder / "watcher.toml"
    settings.write_text(
        f"""
[chain]
rpc_urls = ["{task_chain.rpc_url}"]
chain_id = {task_chain.chain_id}

[task_manager]
address = "{task_chain.task_manager}"
start_block = {task_chain.start_block}

[hook]
target = "trivial:respond"
app_dir = "{Path(__file__).parent}"
workers = 2

[operator]
api = "proxy"
url = "http://127.0.0.1:9"
username = "admin"

[http]
listen = "127.0.0.1:0"
"""
    )
    return settings


async def _run(anvil: Path | None, repeats: int) -> dict[str, list[Start]]:
    starts: dict[str, list[Start]] = {"new ledger": [], "restart": []}
    with tempfile.TemporaryDirectory(prefix="bench-startup-") as folder:
        async with anvil_chain(anvil, Path(folder)) as (chain, url):
            task_chain = await deploy_with_tasks(chain, url, 20, 20, lambda _done: None)
            for number in range(repeats):
                settings = _write_settings(Path(folder) / str(number), task_chain)
                starts["new ledger"].append(await measure(settings))
                starts["restart"].append(await measure(settings))
    return starts


def main(
    repeats: Annotated[int, typer.Option(min=1, help="Starts of each kind; 5 or more for a result.")] = 5,
    anvil: Annotated[Path | None, typer.Option(envvar="WATCHER_ANVIL", help="The anvil binary.")] = None,
) -> None:
    """Median CPU seconds and resident MiB of the daemon at READY."""
    for kind, starts in asyncio.run(_run(anvil, repeats)).items():
        cpu_s = statistics.median(start.cpu_s for start in starts)
        resident = statistics.median(start.resident_mib for start in starts)
        children = statistics.median(start.children_mib for start in starts)
        print(f"{kind:>10}  CPU {cpu_s:5.2f} s  resident {resident:6.1f} MiB, and {children:6.1f} MiB of its children")


if __name__ == "__main__":
    typer.run(main)
