"""The watcher under measure: an interpreter with a version of it, and the daemon as a service manager runs it."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.errors import Failed
from bench.process import Child, Usage, child

PASSWORD = "not a secret"  # of a local server that runs for seconds
_READY_TIMEOUT_S = 180
_HOOKS = Path(__file__).parent / "hooks"


@dataclass(frozen=True, slots=True)
class Program:
    """A version of the watcher: its name in tables, and the interpreter of an environment with it."""

    name: str
    python: Path

    def command(self, *arguments: str) -> tuple[str, ...]:
        return (str(self.python), "-m", "watcher", *arguments)


@dataclass(frozen=True, slots=True)
class Ready:
    """A daemon at READY=1: how long the start took, in seconds, when it ended (monotonic), and what it cost."""

    took_s: float
    at_s: float
    usage: Usage


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running daemon."""

    child: Child
    ready: Ready


@asynccontextmanager
async def daemon(
    program: Program,
    settings: Mapping[str, Mapping[str, object]],
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Daemon]:
    """Run `watcher run` until it is ready; stop it at the end.

    Args:
        program: the version.
        settings: the tables of the configuration file.
        folder: for the file, the ledger and the log; a ledger in it is used again.
        environment: added to its environment.

    Raises:
        Failed: it ends, or is not ready in time.
    """
    file = folder / "watcher.toml"
    file.write_text(toml(settings))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("")  # an abstract address, chosen by the kernel
        manager.setblocking(False)
        variables = {
            "NOTIFY_SOCKET": "@" + manager.getsockname()[1:].decode(),
            "WATCHER_OPERATOR__PASSWORD": PASSWORD,
            **(environment or {}),
        }
        began_s = time.monotonic()
        async with child(program.name, program.command("run", "--config", file.name), folder, variables) as running:
            await _until_ready(manager, running)
            now_s = time.monotonic()
            yield Daemon(running, Ready(now_s - began_s, now_s, running.usage()))


async def _until_ready(manager: socket.socket, running: Child) -> None:
    """Wait for READY=1 (sd_notify(3)); raise Failed if the daemon ends, or time is up."""
    ended = asyncio.create_task(running.process.wait())
    try:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            while True:
                message = asyncio.create_task(asyncio.get_running_loop().sock_recv(manager, 4096))
                await asyncio.wait([ended, message], return_when=asyncio.FIRST_COMPLETED)
                if not message.done():
                    message.cancel()
                    running.require_running()
                elif b"READY=1" in message.result():
                    return
    except TimeoutError:
        raise Failed(f"{running.name} was not ready within {_READY_TIMEOUT_S} s: {running.log_end()}") from None
    finally:
        ended.cancel()


def hook(workers: int = 2, module: str = "trivial") -> dict[str, object]:
    """Return the settings of a hook of bench/hooks; the trivial one costs next to nothing."""
    return {"target": f"{module}:respond", "app_dir": str(_HOOKS), "workers": workers}


def toml(settings: Mapping[str, Mapping[str, object]]) -> str:
    """Return settings as a TOML document. Values are strings, numbers, booleans and lists of them."""
    lines: list[str] = []
    for table, values in settings.items():
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""]
    return "\n".join(lines)
