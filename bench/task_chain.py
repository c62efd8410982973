"""The chain that all sides read: anvil with the devnet's contract, mining on demand."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from watcher.devnet.anvil import Anvil, AnvilOptions
from watcher.devnet.anvil_binary import find_anvil
from watcher.devnet.chain import CREATION_GAS_LIMIT, Chain
from watcher.devnet.contract import call_data
from watcher.devnet.rpc import Rpc
from watcher.devnet.tasks import CREATION_BATCH, TaskManager, deploy, roles_of

CHAIN_ID = 31337
_MESSAGE_BYTES = 32
# No task reaches its deadline: the window is longer than the chain.
_WINDOW_BLOCKS = 100_000
CONFIRMATIONS = 2


@asynccontextmanager
async def anvil_chain(anvil: Path | None, directory: Path) -> AsyncIterator[tuple[Chain, str]]:
    """Yield a new anvil that mines on demand, and its URL. Raises the errors of `find_anvil` and `Anvil.start`."""
    options = AnvilOptions(mining="manual", chain_id=CHAIN_ID)
    async with (
        Anvil(await find_anvil(anvil), options, directory / "anvil.log") as node,
        aiohttp.ClientSession(trust_env=False) as session,
    ):
        chain = Chain(Rpc(session, node.http_url), impatient=True)
        await chain.rpc.call("anvil_setLoggingEnabled", False)  # It would log every call.
        yield chain, node.http_url


@dataclass(frozen=True, slots=True)
class TaskChain:
    """A chain with one task manager."""

    chain: Chain
    rpc_url: str
    manager: TaskManager

    @property
    def ws_url(self) -> str:
        return self.rpc_url.replace("http", "ws", 1)

    @property
    def start_block(self) -> int:
        return self.manager.deployed_block

    async def submit(self, tasks: int) -> None:
        """Put the creation of tasks into the pool; the next block contains it."""
        for first in range(0, tasks, CREATION_BATCH):
            numbers = range(first, min(first + CREATION_BATCH, tasks))
            messages = [self.manager.convention.word(number.to_bytes(_MESSAGE_BYTES, "big")) for number in numbers]
            data = call_data("createManyTasks", messages, 66, b"\x00", convention=self.manager.convention)
            gas = CREATION_GAS_LIMIT // CREATION_BATCH * max(len(numbers), 5)
            await self.chain.send(self.manager.roles.generator, self.manager.address, data, gas=gas)

    async def mine(self) -> None:
        """Mine one block of what is in the pool."""
        await self.chain.rpc.call("evm_mine")

    async def create(self, tasks: int, per_block: int) -> None:
        """Create tasks in blocks of so many, and confirm them all."""
        for first in range(0, tasks, per_block):
            await self.submit(min(per_block, tasks - first))
            await self.mine()
        await self.chain.mine(CONFIRMATIONS)


@asynccontextmanager
async def task_chain(anvil: Path, directory: Path) -> AsyncIterator[TaskChain]:
    """Yield a new chain with a task manager without tasks."""
    async with anvil_chain(anvil, directory) as (chain, url):
        manager = await deploy(chain, await roles_of(chain), _WINDOW_BLOCKS)
        yield TaskChain(chain, url, manager)
