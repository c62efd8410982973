"""The observer's example on a real anvil, against a contract with the mailbox's events and its view of a status."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak

from watcher.chain.admit import Admit
from watcher.chain.confirm import Confirm
from watcher.chain.consistency import Consistency
from watcher.chain.contract import TaskManager
from watcher.chain.convention.convention import convention
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.source import Source
from watcher.chain.watch import Watch, WatchPlan
from watcher.clock import SystemClock
from watcher.devnet.world import Devnet, DevnetOptions
from watcher.ledger import by_index, queries, schema
from watcher.ledger.engine import parse_url
from watcher.ledger.store import Ledger, open_ledger
from watcher.settings import load

EXAMPLE = Path(__file__).parents[2] / "examples" / "hourglass_mailbox"
OURS, THEIRS = "0x" + "33" * 20, "0x" + "44" * 20
# A call of 36 bytes is getTaskStatus(bytes32). Any other is: key, status to store under it, four topics, data to log.
CODE = bytes.fromhex(
    "3660241460295760203560003555"  # if calldatasize == 36 goto view; store the status
    "60c036038060c0600037"  # copy the data to memory
    "60a0356080356060356040358460 00a400".replace(" ", "")  # log it with the topics, and stop
    + "5b600435546000526020 6000f3".replace(" ", "")  # view: return what is stored
)
INIT = bytes([0x60, len(CODE), 0x80, 0x60, 0x0B, 0x60, 0, 0x39, 0x60, 0, 0xF3]) + CODE
CREATED = keccak(b"TaskCreated(address,bytes32,address,uint32,uint32,address,uint96,uint256,bytes)")
VERIFIED = keccak(b"TaskVerified(address,bytes32,address,uint32,bytes,bytes)")


@dataclass
class Rig:
    net: Devnet
    mailbox: str
    ledger: Ledger
    watch: Watch
    admit: Admit
    confirm: Confirm
    consistency: Consistency

    async def _emit(self, event: bytes, task: bytes, avs: str, status: int, data: bytes) -> None:
        indexed = encode(["address", "bytes32", "address"], [avs, task, avs])
        call = task + status.to_bytes(32) + event + indexed + data
        await self.net.chain.run(self.net.manager.roles.owner, self.mailbox, call)

    async def create(self, task: bytes, avs: str = OURS, deadline_s: int = 4_000_000_000) -> None:
        types = ["uint32", "uint32", "address", "uint96", "uint256", "bytes"]
        await self._emit(CREATED, task, avs, 1, encode(types, [0, 1, avs, 0, deadline_s, b"what is it?"]))

    async def verify(self, task: bytes, result: bytes, avs: str = OURS) -> None:
        await self._emit(VERIFIED, task, avs, 2, encode(["uint32", "bytes", "bytes"], [0, b"certificate", result]))

    async def read(self) -> dict[bytes, str]:
        await self.net.mine(3)
        while await self.watch.step() == 0:
            pass
        await self.admit.step()
        await self.confirm.step()
        rows = await self.ledger.read(lambda conn: list(queries.list_tasks(conn, self.ledger.source_id)))
        return {row.task_index.to_bytes(32): row.state for row in rows}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        options = DevnetOptions(directory=tmp_path / "net", mining="auto", persist=False)
        net = await stack.enter_async_context(Devnet(options))
        made = await net.chain.run(net.manager.roles.owner, None, INIT)
        mailbox, clock = str(made["contractAddress"]), SystemClock()
        nodes = NodePool([Node(net.rpc_url, net.chain_id, clock)], clock, Random(1))
        stack.push_async_callback(nodes.close)
        address = bytes.fromhex(mailbox[2:])
        described = convention("custom", EXAMPLE / "convention.toml", answers=False)
        contract = TaskManager(nodes, address, described, 100)
        url = parse_url(f"sqlite:///{tmp_path / 'watcher.db'}")
        schema.upgrade(url)
        ledger = await stack.enter_async_context(open_ledger(url, clock, net.chain_id, address, 1))
        source = Source(nodes, contract, ledger, clock)
        watch = Watch(source, WatchPlan(net.chain_id, 2, 100, 1))
        confirm = Confirm(source, 1)
        admit = Admit(source, 0, 1)
        yield Rig(net, mailbox, ledger, watch, admit, confirm, Consistency(source))


async def test_observer_records_what_the_mailbox_shows_of_its_avs(rig: Rig) -> None:
    verified, waiting, foreign = (bytes([number]) * 32 for number in (1, 2, 3))
    await rig.create(verified)
    await rig.create(waiting)
    await rig.create(foreign, avs=THEIRS)
    assert await rig.read() == {verified: "ready", waiting: "ready"}
    await rig.verify(foreign, b"theirs", avs=THEIRS)
    await rig.verify(verified, b"forty-two")
    await rig.read()
    assert await rig.read() == {verified: "final_other", waiting: "ready"}
    index = int.from_bytes(verified)
    (response,) = await rig.ledger.read(by_index.responses_between, rig.ledger.source_id, index, index)
    assert response.message == b"forty-two"
    for _ in range(2):
        await rig.consistency.run()
    assert rig.consistency.messages == (), "a status of 1 is no answer"


def test_example_settings_are_those_of_an_observer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLE.parents[1])
    settings = load.load(EXAMPLE / "watcher.toml", environ={})
    assert (settings.operator.api, settings.task_manager.convention) == ("none", "custom")
    assert settings.task_manager.convention_file == "examples/hourglass_mailbox/convention.toml"
