"""A chain whose tasks are all final, with ledgers of any size for it, kept in the cache."""

import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.filler import fill
from bench.ledger_reading import ledger_reading
from bench.machine import ROOT
from bench.program import PASSWORD, Program, daemon
from bench.server import USERNAME
from bench.settings import LEDGER_FILE, Choice, tables
from bench.task_chain import CHAIN_ID, TaskChain
from watcher.devnet.anvil import Anvil, AnvilOptions
from watcher.devnet.chain import Chain
from watcher.devnet.rpc import Rpc
from watcher.devnet.tasks import TaskManager, roles_of
from watcher.devnet.world import Devnet, DevnetOptions

_TEMPLATE_TASKS = 20
_WINDOW_BLOCKS = 100_000
_BLOCK_S = 0.25
_FINAL_TIMEOUT_S = 120
_STATE, _CONTRACT = "chain.json", "contract.json"
_SLOTS = 32


@dataclass(frozen=True, slots=True)
class Grown:
    """The folder with the chain's state and the ledgers."""

    folder: Path
    anvil: Path

    def copy_ledger(self, tasks: int, folder: Path) -> None:
        """Copy a ledger of this size into a folder; it is filled if there is none yet."""
        file = self.folder / f"{tasks}.db"
        if not file.exists():
            fill(self.folder / LEDGER_FILE, file, tasks // _TEMPLATE_TASKS)
        shutil.copy(file, folder / LEDGER_FILE)

    @asynccontextmanager
    async def chain(self, tasks: int, folder: Path) -> AsyncIterator[TaskChain]:
        """Run the chain in a folder of its own; its contract counts so many tasks."""
        shutil.copy(self.folder / _STATE, folder / _STATE)
        contract = json.loads((self.folder / _CONTRACT).read_text())
        options = AnvilOptions(mining="manual", chain_id=CHAIN_ID, state_file=folder / _STATE)
        async with (
            Anvil(self.anvil, options, folder / "anvil.log") as node,
            aiohttp.ClientSession(trust_env=False) as session,
        ):
            chain = Chain(Rpc(session, node.http_url), impatient=True)
            await chain.rpc.call("anvil_setLoggingEnabled", False)
            manager = TaskManager(chain, await roles_of(chain), contract["address"], contract["deployed_block"])
            await _set_count(manager, tasks)
            yield TaskChain(chain, node.http_url, manager)


async def grown(program: Program, anvil: Path, cache: Path) -> Grown:
    """Return the chain with its ledgers; made by the program itself if its tables have changed."""
    tables_of_program = (ROOT / "watcher" / "ledger" / "tables.py").read_bytes()
    folder = cache / "grown" / hashlib.sha256(tables_of_program).hexdigest()[:12]
    if not (folder / _CONTRACT).exists():
        shutil.rmtree(cache / "grown", ignore_errors=True)  # ledgers of other tables are of no use
        folder.mkdir(parents=True)
        await _make_template(program, anvil, folder)
    return Grown(folder, anvil)


async def _make_template(program: Program, anvil: Path, folder: Path) -> None:
    """Let a daemon answer a few tasks on a devnet until they are final; keep its ledger and the chain."""
    options = DevnetOptions(
        anvil=anvil,
        directory=folder,
        mining=_BLOCK_S,
        window_blocks=_WINDOW_BLOCKS,
        username=USERNAME,
        password=PASSWORD,
    )
    async with Devnet(options) as devnet:
        await devnet.create_tasks([number.to_bytes(32, "big") for number in range(_TEMPLATE_TASKS)])
        chain = TaskChain(devnet.chain, devnet.rpc_url, devnet.manager)
        async with (
            daemon(program, tables(chain, Choice(devnet.api_url)), folder),
            ledger_reading(f"sqlite:///{folder / LEDGER_FILE}") as ledger,
        ):
            await ledger.until("final", _TEMPLATE_TASKS, _FINAL_TIMEOUT_S)
        contract = {"address": devnet.manager.address, "deployed_block": devnet.manager.deployed_block}
    (folder / _CONTRACT).write_text(json.dumps(contract))


async def _set_count(manager: TaskManager, tasks: int) -> None:
    """Let the contract count so many tasks: `latestTaskNum` is 4 bytes of one of its slots, which are tried in turn."""
    rpc, count = manager.chain.rpc, await manager.count()
    for slot in range(_SLOTS):
        value = bytes.fromhex((await rpc.call("eth_getStorageAt", manager.address, hex(slot), "latest"))[2:])
        for at in range(29):
            if value[at : at + 4] == count.to_bytes(4, "big"):
                changed = value[:at] + tasks.to_bytes(4, "big") + value[at + 4 :]
                await rpc.call("anvil_setStorageAt", manager.address, _word(slot), "0x" + changed.hex())
                if await manager.count() == tasks:
                    return
                await rpc.call("anvil_setStorageAt", manager.address, _word(slot), "0x" + value.hex())
    raise LookupError("no slot of the contract holds latestTaskNum")


def _word(number: int) -> str:
    return "0x" + number.to_bytes(32, "big").hex()
