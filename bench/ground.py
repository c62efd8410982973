"""The chain both sides read: anvil with the devnet's contract and the wanted number of tasks, all mined beforehand."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from bench.order import Ground
from watcher.devnet.anvil import Anvil, AnvilOptions
from watcher.devnet.anvil_binary import find_anvil
from watcher.devnet.chain import Chain
from watcher.devnet.rpc import Rpc
from watcher.devnet.tasks import TaskManager, deploy, roles_of

_CHAIN_ID = 31337
_MESSAGE_BYTES = 32
# No deadline of the benchmark's own making: the window outlasts every block that is mined.
_WINDOW_BLOCKS = 100_000
_CONFIRMATIONS = 2

Progress = Callable[[int], None]


@asynccontextmanager
async def anvil_chain(anvil: Path | None, directory: Path) -> AsyncIterator[tuple[Chain, str]]:
    """A fresh anvil that mines only when told to, and its URL. Raises what finding and starting anvil raise."""
    options = AnvilOptions(mining="manual", chain_id=_CHAIN_ID)
    async with (
        Anvil(await find_anvil(anvil), options, directory / "anvil.log") as node,
        aiohttp.ClientSession(trust_env=False) as session,
    ):
        chain = Chain(Rpc(session, node.http_url), impatient=True)
        await chain.rpc.call("anvil_setLoggingEnabled", False)  # it logs every call otherwise
        yield chain, node.http_url


async def lay(chain: Chain, rpc_url: str, tasks: int, per_block: int, progress: Progress) -> Ground:
    """Deploy a contract and have it create `tasks` tasks, `per_block` in each block, all of them confirmed."""
    manager = await deploy(chain, await roles_of(chain), _WINDOW_BLOCKS)
    for first in range(0, tasks, per_block):
        await _create(manager, range(first, min(first + per_block, tasks)))
        progress(min(first + per_block, tasks))
    await chain.mine(_CONFIRMATIONS)
    return Ground(rpc_url, _CHAIN_ID, manager.address, manager.deployed_block, tasks)


async def _create(manager: TaskManager, numbers: range) -> None:
    await manager.create_tasks([number.to_bytes(_MESSAGE_BYTES, "big") for number in numbers])
