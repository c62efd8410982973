"""The chain that both sides read: anvil with the devnet's contract and its tasks, all mined beforehand."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from bench.run_spec import TaskChain
from watcher.devnet.anvil import Anvil, AnvilOptions
from watcher.devnet.anvil_binary import find_anvil
from watcher.devnet.chain import Chain
from watcher.devnet.rpc import Rpc
from watcher.devnet.tasks import TaskManager, deploy, roles_of

_CHAIN_ID = 31337
_MESSAGE_BYTES = 32
# No task reaches its deadline: the window is longer than the chain.
_WINDOW_BLOCKS = 100_000
_CONFIRMATIONS = 2

Progress = Callable[[int], None]


@asynccontextmanager
async def anvil_chain(anvil: Path | None, directory: Path) -> AsyncIterator[tuple[Chain, str]]:
    """Yield a new anvil that mines on demand, and its URL. Raises the errors of `find_anvil` and `Anvil.start`."""
    options = AnvilOptions(mining="manual", chain_id=_CHAIN_ID)
    async with (
        Anvil(await find_anvil(anvil), options, directory / "anvil.log") as node,
        aiohttp.ClientSession(trust_env=False) as session,
    ):
        chain = Chain(Rpc(session, node.http_url), impatient=True)
        await chain.rpc.call("anvil_setLoggingEnabled", False)  # It would log every call.
        yield chain, node.http_url


async def deploy_with_tasks(chain: Chain, rpc_url: str, tasks: int, per_block: int, progress: Progress) -> TaskChain:
    """Deploy a contract and create tasks, all of them confirmed.

    Args:
        chain: the chain.
        rpc_url: its URL.
        tasks: the number of tasks.
        per_block: the number of tasks in a block.
        progress: gets the number of tasks created so far.
    """
    manager = await deploy(chain, await roles_of(chain), _WINDOW_BLOCKS)
    for first in range(0, tasks, per_block):
        await _create(manager, range(first, min(first + per_block, tasks)))
        progress(min(first + per_block, tasks))
    await chain.mine(_CONFIRMATIONS)
    return TaskChain(rpc_url, _CHAIN_ID, manager.address, manager.deployed_block, tasks)


async def _create(manager: TaskManager, numbers: range) -> None:
    await manager.create_tasks([number.to_bytes(_MESSAGE_BYTES, "big") for number in numbers])
