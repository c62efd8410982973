"""The live path, measured: `python -m bench.live [--blocks N] [--tasks N]`.

A real daemon watches an anvil that mines on demand, with `confirmations = 0` and an instant hook. Measured are the time
from a block to the arrival of its POST, beside the arrival of the log at a raw WebSocket; and CPU, requests, reads and
commits of a block with one task in it, and of one with none.
"""

import asyncio
import base64
import json
import os
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer

from bench.server import Exchange
from bench.task_chain import anvil_chain
from watcher.devnet.chain import Chain
from watcher.devnet.contract import call_data
from watcher.devnet.tasks import TaskManager, deploy, roles_of

_PASSWORD = "not a secret"
_WINDOW_BLOCKS = 100_000
_ARRIVAL_TIMEOUT_S = 20
_QUIET_S = 0.4  # after a block: every stage has come to rest
_CREATION_GAS = 3_000_000
_STEP = re.compile(r"task\.step: .* step=(?P<step>\w+) ms=(?P<ms>[\d.]+) total_ms=(?P<total_ms>[\d.]+)")

Counts = Mapping[str, float]


@dataclass(slots=True)
class Arrivals:
    """The times (s, monotonic) at which logs reach a raw socket and POSTs reach the API."""

    logs: asyncio.Queue[float] = field(default_factory=asyncio.Queue)
    posts: asyncio.Queue[float] = field(default_factory=asyncio.Queue)


@dataclass(slots=True)
class Result:
    """Latencies in ms after the block was asked for; the cost of one block of each kind."""

    to_socket_ms: list[float]
    to_post_ms: list[float]
    with_task: Counts
    empty: Counts

    def show(self) -> None:
        """Print the tables."""
        over_ms = [post - log for post, log in zip(self.to_post_ms, self.to_socket_ms, strict=True)]
        for name, values in (("socket", self.to_socket_ms), ("POST", self.to_post_ms), ("POST over socket", over_ms)):
            print(f"{name:>18}: p50 {statistics.median(values):6.1f} ms, worst {max(values):6.1f} ms")
        print(f"{'a block':>18}  {'none':>9}  {'one task':>9}")
        for name in sorted(self.empty.keys() | self.with_task.keys()):
            print(f"{name:>18}  {self.empty.get(name, 0):9.2f}  {self.with_task.get(name, 0):9.2f}")


class Daemon:
    """The measured daemon, a child process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def counts(self) -> Counts:
        """Return the counters now."""
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGUSR1)
        counts: Counts = json.loads(await self._process.stdout.readline())
        return counts


async def measure(chain: Chain, url: str, folder: Path, blocks: int, tasks: int, *, trace: bool) -> Result:
    """Return what `blocks` empty blocks and `tasks` blocks with one task each cost.

    Args:
        chain: mines on demand.
        url: its HTTP URL.
        folder: for the ledger.
        blocks: the number of empty blocks.
        tasks: the number of blocks with a task.
        trace: log the steps of each task, which costs time.
    """
    manager, arrivals = await deploy(chain, await roles_of(chain), _WINDOW_BLOCKS), Arrivals()
    await chain.mine(3)
    async with AsyncExitStack() as stack:
        api_url = await stack.enter_async_context(_api(arrivals))
        await stack.enter_async_context(_raw_socket(url, manager, arrivals))
        toml = _toml(url, manager, api_url, folder / "watcher.db")
        daemon = await stack.enter_async_context(_daemon(toml, folder, trace=trace))
        for number in range(3):  # the first task meets cold connections and workers
            await _one_task(chain, manager, arrivals, number)
        idle = await _cost(daemon, tasks, lambda _number: asyncio.sleep(0))
        empty = await _cost(daemon, blocks, lambda _number: _mine(chain))
        latencies: list[tuple[float, float]] = []

        async def one_task(number: int) -> None:
            latencies.append(await _one_task(chain, manager, arrivals, 100 + number))

        with_task = await _cost(daemon, tasks, one_task)
    rest = idle.get("cpu ms", 0.0)
    for cost in (empty, with_task):
        cost["cpu ms"] -= rest  # of the second-by-second work, which goes on without blocks
    return Result([log for log, _ in latencies], [post for _, post in latencies], with_task, empty)


async def _cost(daemon: Daemon, times: int, act: Any) -> dict[str, float]:
    """Return the counters per act."""
    before = await daemon.counts()
    for number in range(times):
        await act(number)
        await asyncio.sleep(_QUIET_S)
    after = await daemon.counts()
    cost = {name: (after[name] - before.get(name, 0)) / times for name in after if ":" in name}
    for kind in ("requests", "calls", "reads", "writes", "commits", "steps"):
        cost[f"all {kind}"] = sum(value for name, value in cost.items() if name.endswith(f":{kind}"))
    return {name: value for name, value in cost.items() if value} | {
        "cpu ms": (after["cpu_s"] - before["cpu_s"]) * 1000 / times
    }


async def _mine(chain: Chain) -> None:
    await chain.rpc.call("evm_mine")


async def _one_task(chain: Chain, manager: TaskManager, arrivals: Arrivals, number: int) -> tuple[float, float]:
    """Create a task and mine it. Return the ms until the raw socket and until the API had it."""
    word = manager.convention.word(number.to_bytes(32))
    data = call_data(manager.convention.create, word, 66, b"\x00", convention=manager.convention)
    await chain.send(manager.roles.generator, manager.address, data, gas=_CREATION_GAS)
    began_s = time.monotonic()
    await _mine(chain)
    async with asyncio.timeout(_ARRIVAL_TIMEOUT_S):
        log_s, post_s = await arrivals.logs.get(), await arrivals.posts.get()
    return (log_s - began_s) * 1000, (post_s - began_s) * 1000


class _NotedExchange(Exchange):
    """An exchange that notes when a request arrives."""

    def __init__(self, authorization: bytes, arrivals: Arrivals) -> None:
        super().__init__(authorization)
        self._arrivals = arrivals

    def requested(self) -> None:
        self._arrivals.posts.put_nowait(time.monotonic())


@asynccontextmanager
async def _api(arrivals: Arrivals) -> AsyncIterator[str]:
    authorization = b"Basic " + base64.b64encode(f"admin:{_PASSWORD}".encode())
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: _NotedExchange(authorization, arrivals), "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@asynccontextmanager
async def _raw_socket(url: str, manager: TaskManager, arrivals: Arrivals) -> AsyncIterator[None]:
    """Note when the contract's logs reach a bare subscription."""
    async with aiohttp.ClientSession(trust_env=False) as session, session.ws_connect(url) as socket:
        filters = ["logs", {"address": manager.address}]
        await socket.send_json({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": filters})
        await socket.receive_json()

        async def listen() -> None:
            async for _message in socket:
                arrivals.logs.put_nowait(time.monotonic())

        listening = asyncio.create_task(listen())
        try:
            yield
        finally:
            listening.cancel()


@asynccontextmanager
async def _daemon(toml: str, folder: Path, *, trace: bool) -> AsyncIterator[Daemon]:
    """Run the daemon until it is ready; stop it at the end."""
    file = folder / "watcher.toml"
    file.write_text(toml)
    environment = {**os.environ, "WATCHER_OPERATOR__PASSWORD": _PASSWORD, "NO_COLOR": "1"}
    with (folder / "daemon.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.live_child", str(file), *(["--trace"] if trace else [])),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env=environment,
        )
    try:
        async with asyncio.timeout(60):
            while b"daemon.watching" not in (text := (folder / "daemon.log").read_bytes()):
                if process.returncode is not None:
                    raise RuntimeError(text.decode())
                await asyncio.sleep(0.05)
        yield Daemon(process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _toml(url: str, manager: TaskManager, api_url: str, ledger: Path) -> str:
    return f"""\
[chain]
rpc_urls = ["{url}", "{url.replace("http", "ws", 1)}"]
chain_id = 31337
confirmations = 0
poll_interval_s = 60
[task_manager]
address = "{manager.address}"
start_block = {manager.deployed_block}
[hook]
target = "trivial:respond"
app_dir = "{Path(__file__).parent / "hooks"}"
[operator]
api = "proxy"
url = "{api_url}"
username = "admin"
resolve_after_blocks = 1000
[ledger]
url = "sqlite:///{ledger}"
[http]
listen = ""
[log]
format = "text"
"""


def main(
    blocks: Annotated[int, typer.Option(min=1, help="Empty blocks.")] = 20,
    tasks: Annotated[int, typer.Option(min=1, help="Blocks with one task each.")] = 20,
    trace: Annotated[bool, typer.Option("--trace", help="Trace each task, and print where its time goes.")] = False,
) -> None:
    """Measure latency and cost of the live path."""

    async def run(folder: Path) -> Result:
        async with anvil_chain(None, folder) as (chain, url):
            return await measure(chain, url, folder, blocks, tasks, trace=trace)

    with tempfile.TemporaryDirectory(prefix="bench-live-") as folder:
        result = asyncio.run(run(Path(folder)))
        result.show()
        show_steps((Path(folder) / "daemon.log").read_text())


def show_steps(log: str) -> None:
    """Print the median time of each step in a daemon's log, in the order of the steps."""
    steps: dict[str, list[tuple[float, float]]] = {}
    for line in log.splitlines():
        if match := _STEP.search(line):
            steps.setdefault(match["step"], []).append((float(match["ms"]), float(match["total_ms"])))
    for step, times in steps.items():
        of_step, total = (statistics.median(values) for values in zip(*times, strict=True))
        print(f"{step:>18}  {of_step:6.1f} ms  {total:6.1f} ms since the push, {len(times)} tasks")


if __name__ == "__main__":
    typer.run(main)
