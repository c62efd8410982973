"""What answers tasks live: the watcher, or a peer that listens on a WebSocket. Each is a process."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bench.environment import PEERS, node_modules_of, python_of
from bench.measure import Side
from bench.process import Child, child
from bench.program import PASSWORD, daemon
from bench.rig import Rig
from bench.server import USERNAME
from bench.settings import Choice, tables
from bench.task_chain import CHAIN_ID, TaskChain
from watcher.devnet.contract import artifact, created_topic

RAW, WEB3, SILVERBACK = "raw socket", "web3.py subscription", "Silverback"
_FOLDERS = {RAW: "raw_socket", WEB3: "web3_subscription", SILVERBACK: "silverback"}


def live_sides(rig: Rig) -> Sequence[Side]:
    """Return the watchers and, beside a single one, the peers; each is compared with the raw socket, or the base."""
    if not rig.with_peers:
        return [Side(program.name, program.name, rig.programs[1].name, program) for program in rig.programs]
    program = rig.programs[0]
    peers = [Side(name, name, "" if name == RAW else RAW, peer=_FOLDERS[name]) for name in _FOLDERS]
    return [Side(program.name, program.name, RAW, program), *peers]


async def prepare(side: Side, cache: Path) -> None:
    """Make the environment of a side's peer, so that no run waits for it. Raises Unavailable."""
    if side.peer in _FOLDERS.values():
        await python_of(side.peer, cache)
    elif side.peer:
        await node_modules_of(side.peer, cache)


@asynccontextmanager
async def listener(
    side: Side, chain: TaskChain, api_url: str, cache: Path, folder: Path, confirmations: int = 0
) -> AsyncIterator[Child]:
    """Run a side; it may need some seconds until it hears of blocks.

    Args:
        side: the watcher or a peer.
        chain: the chain to listen to.
        api_url: the API to answer to.
        cache: the folder of the environments.
        folder: the run's folder.
        confirmations: of the watcher; peers answer at once.
    """
    if side.program is not None:
        settings = tables(chain, Choice(api_url, confirmations=confirmations))
        async with daemon(side.program, settings, folder) as running:
            yield running.child
        return
    python = await python_of(side.peer, cache)
    async with child(
        side.peer, _command(side.peer, python, chain, folder), folder, variables(chain, api_url, folder)
    ) as running_peer:
        yield running_peer


def _command(peer: str, python: Path, chain: TaskChain, folder: Path) -> Sequence[str]:
    if peer != _FOLDERS[SILVERBACK]:
        return (str(python), str(PEERS / peer / "listener.py"))
    (folder / "bot.py").write_bytes((PEERS / peer / "bot.py").read_bytes())
    uris = {"http_uri": chain.rpc_url, "ws_uri": chain.ws_url}
    (folder / "ape-config.yaml").write_text(json.dumps({"node": {"ethereum": {"local": uris}}}))
    return (str(python.parent / "silverback"), "run", "bot", "--network", "ethereum:local:node")


def variables(chain: TaskChain, api_url: str, folder: Path) -> Mapping[str, str]:
    """Return the environment of a peer: the chain, the contract with its ABI in a file, the API."""
    abi = folder / "abi.json"
    abi.write_text(json.dumps(artifact()["abi"]))
    return {
        "BENCH_WS_URL": chain.ws_url,
        "BENCH_RPC_URL": chain.rpc_url,
        "BENCH_CHAIN_ID": str(CHAIN_ID),
        "BENCH_ADDRESS": chain.manager.address,
        "BENCH_TOPIC": "0x" + created_topic().hex(),
        "BENCH_START_BLOCK": str(chain.start_block),
        "BENCH_ABI": str(abi),
        "BENCH_API_URL": api_url,
        "BENCH_USERNAME": USERNAME,
        "BENCH_PASSWORD": PASSWORD,
        "HOME": str(folder),  # Ape keeps its data there
    }
