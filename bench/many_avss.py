"""What many AVSs with idle contracts cost one process, on a devnet.

    python -m bench.many_avss [AVSS] [SECONDS] [BLOCK_S]

Each AVS watches a contract of its own on one node and answers nothing, so that the figures are those of the daemon:
no worker processes. CPU is that of the process.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from bench.process import child
from watcher.devnet.tasks import deploy, roles_of
from watcher.devnet.world import Devnet, DevnetOptions

_START_TIMEOUT_S = 900


def _toml(net: Devnet, contracts: list[tuple[str, int]], folder: Path) -> str:
    common = f"""\
[chain]
rpc_urls = ["{net.rpc_url}", "{net.ws_url}"]
chain_id = {net.chain_id}
[operator]
api = "none"
[ledger]
url = "sqlite:///{folder}/watcher.db"
[http]
listen = ""
"""
    return common + "".join(
        f'[[avs]]\nname = "avs-{number}"\n[avs.task_manager]\naddress = "{address}"\nstart_block = {block}\n'
        for number, (address, block) in enumerate(contracts)
    )


async def _measure(avss: int, seconds: float, block_s: int) -> dict[str, float]:
    options = DevnetOptions(mining="auto", persist=False)
    with tempfile.TemporaryDirectory(prefix="many-avss-") as name:
        folder = Path(name)
        async with Devnet(options) as net:
            roles = await roles_of(net.chain)
            managers = [await deploy(net.chain, roles, 100, net.convention) for _ in range(avss)]
            (folder / "watcher.toml").write_text(_toml(net, [(m.address, m.deployed_block) for m in managers], folder))
            await net.chain.rpc.call("evm_setIntervalMining", block_s)
            began_s = time.monotonic()
            command = [sys.executable, "-m", "watcher", "run", "--config", str(folder / "watcher.toml")]
            async with child("watcher", command, folder) as daemon:
                async with asyncio.timeout(_START_TIMEOUT_S):
                    while _started(folder) < avss:
                        daemon.require_running()
                        await asyncio.sleep(0.2)
                started_s, start_usage = time.monotonic() - began_s, daemon.usage()
                await asyncio.sleep(5)
                before, at_s = daemon.usage(), time.monotonic()
                await asyncio.sleep(seconds)
                after, took_s = daemon.usage(), time.monotonic() - at_s
    return {
        "avss": avss,
        "block_s": block_s,
        "start_s": round(started_s, 1),
        "start_cpu_s": round(start_usage.cpu_s, 2),
        "resident_mib": round(after.resident_mib, 1),
        "cpu_share": round((after.cpu_s - before.cpu_s) / took_s, 3),
    }


def _started(folder: Path) -> int:
    return sum(file.read_bytes().count(b"daemon.watching") for file in folder.rglob("*.log"))


def main() -> None:
    """Print the figures as JSON."""
    numbers = [int(text) for text in sys.argv[1:]]
    avss, seconds, block_s = (*numbers, *(100, 60, 12)[len(numbers) :])
    print(json.dumps(asyncio.run(_measure(avss, seconds, block_s))))


if __name__ == "__main__":
    main()
