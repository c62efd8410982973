"""Contracts that count from 1, in each of three ways: no hole that never was, and a slip in the file is named."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak

from watcher.chain.admit import Admit
from watcher.chain.consistency import Consistency
from watcher.chain.contract import TaskManager
from watcher.chain.convention.convention import convention
from watcher.chain.reconcile import Reconcile
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.source import Source
from watcher.chain.watch import Watch, WatchPlan
from watcher.clock import SystemClock
from watcher.devnet.world import Devnet, DevnetOptions
from watcher.doctor.finding import Finding, Notes
from watcher.doctor.newest_task import check_count
from watcher.doctor.subject import Subject
from watcher.ledger import queries, schema
from watcher.ledger.engine import parse_url
from watcher.ledger.store import Ledger, open_ledger
from watcher.report.proof import Proof
from watcher.report.prove import Prover
from watcher.settings.model import Settings
from watcher.task import Header

CONTRACTS = Path(__file__).parents[1] / "contracts"
CONVENTION = """
answer = "string"
[task]
event = "TaskCreated(uint32 indexed index, string question)"
index = "index"
hash = ["question"]
hash_view = "questions(uint32)"
COUNT
[response]
event = "TaskAnswered(uint32 indexed index, string answer)"
index = "index"
answer = "answer"
hash = ["answer"]
hash_view = "answers(uint32)"
"""
NEXT, COUNT = 'count_view = "nextIndex()"', 'count_view = "count()"\ncount_is = "count"'
LAST = 'count_view = "count()"'  # of tasks from 1, the number of tasks is the last index, too


@dataclass
class Rig:
    """A contract on anvil, and what reads it as one file describes it."""

    net: Devnet
    address: str
    nodes: NodePool
    contract: TaskManager
    ledger: Ledger
    watch: Watch
    admit: Admit
    start_block: int

    async def create(self, *questions: str) -> None:
        for question in questions:
            data = keccak(b"create(string)")[:4] + encode(["string"], [question])
            await self.net.chain.run(self.net.manager.roles.owner, self.address, data)
        await self.net.mine(3)
        while await self.watch.step() == 0:
            pass
        await self.admit.step()

    async def prove(self) -> Proof:
        address = bytes.fromhex(self.address[2:])
        return await Prover(self.contract, self.ledger.read, self.ledger.source_id, self.net.chain_id, address).prove()

    async def head(self) -> Header:
        head = await self.contract.header(await self.net.chain.head())
        assert head is not None
        return head

    async def messages(self) -> tuple[str, ...]:
        """What housekeeping says of the convention after two passes."""
        consistency = Consistency(Source(self.nodes, self.contract, self.ledger, SystemClock()))
        for _ in range(2):
            await consistency.run()
        return consistency.messages

    async def check(self) -> list[Finding]:
        """What `watcher check` says of the numbers."""
        settings = Settings.model_validate(
            {
                "chain": {"rpc_urls": [self.net.rpc_url], "chain_id": self.net.chain_id},
                "task_manager": {"address": self.address, "start_block": self.start_block},
                "operator": {"api": "none"},
            }
        )
        head = await self.head()
        made = await self.nodes.find(
            self.contract.address, self.contract.convention.created_topic, None, self.start_block, head.number
        )
        newest = self.contract.convention.decode_task(made[-1], self.net.chain_id, None)
        count, notes = await self.contract.latest_task_num(head), Notes("contract")
        subject = Subject(self.nodes, self.contract, head, settings.chain, settings.task_manager)
        await check_count(subject, count, newest, made[:1], notes)
        return list(notes.findings)


class Rigs:
    """Makes rigs over one devnet."""

    def __init__(self, net: Devnet, folder: Path, stack: AsyncExitStack) -> None:
        self._net, self._folder, self._stack = net, folder, stack

    async def make(self, first: int, counted: str) -> Rig:
        net = self._net
        code = bytes.fromhex(json.loads((CONTRACTS / "task_counter.json").read_text())["TaskCounter"][2:])
        made = await net.chain.run(net.manager.roles.owner, None, code + encode(["uint32"], [first]))
        file = self._folder / "own.toml"
        file.write_text(CONVENTION.replace("COUNT", counted))
        clock = SystemClock()
        nodes = NodePool([Node(net.rpc_url, net.chain_id, clock)], clock, Random(1))
        self._stack.push_async_callback(nodes.close)
        address = bytes.fromhex(str(made["contractAddress"])[2:])
        contract = TaskManager(nodes, address, convention("custom", file, answers=False), 100)
        url = parse_url(f"sqlite:///{self._folder / 'watcher.db'}")
        schema.upgrade(url)
        start_block = int(made["blockNumber"], 16)
        ledger = await self._stack.enter_async_context(open_ledger(url, clock, net.chain_id, address, start_block))
        source = Source(nodes, contract, ledger, clock)
        watch = Watch(source, WatchPlan(net.chain_id, 1, 100, 1))
        admit = Admit(source, 0, 1)
        return Rig(net, str(made["contractAddress"]), nodes, contract, ledger, watch, admit, start_block)


@pytest.fixture
async def rigs(tmp_path: Path) -> AsyncIterator[Rigs]:
    async with AsyncExitStack() as stack:
        options = DevnetOptions(directory=tmp_path / "net", mining="auto", persist=False)
        yield Rigs(await stack.enter_async_context(Devnet(options)), tmp_path, stack)


RIGHT = [
    (0, NEXT),
    (0, COUNT),
    (0, LAST),
    (1, f"{NEXT}\nfirst_index = 1"),
    (1, f"{COUNT}\nfirst_index = 1"),
    (5, f"{NEXT}\nfirst_index = 5"),
    (5, f"{COUNT}\nfirst_index = 5"),
]


@pytest.mark.parametrize(("first", "counted"), RIGHT)
async def test_no_hole_is_seen_when_the_file_says_how_is_counted(first: int, counted: str, rigs: Rigs) -> None:
    rig = await rigs.make(first, counted)
    await rig.net.mine(3)
    while await rig.watch.step() == 0:
        pass
    assert await rig.messages() == (), "no task yet"
    assert await rig.contract.latest_task_num(await rig.head()) == first
    assert (await rig.prove()).ok
    await rig.create("one", "two", "three")
    assert await rig.contract.latest_task_num(await rig.head()) == first + 3
    reconcile = Reconcile(Source(rig.nodes, rig.contract, rig.ledger, SystemClock()), rig.watch.reader)
    for _ in range(2):
        assert await reconcile.run() == 0
    events = await rig.ledger.read(queries.recent_events, rig.ledger.source_id)
    assert [event.words for event in events if event.kind == "count differs"] == []
    proof = await rig.prove()
    assert (proof.ok, proof.known, proof.first_index, proof.missing) == (True, 3, first, [])
    assert await rig.messages() == ()
    assert await rig.check() == []


@pytest.mark.parametrize(
    ("first", "counted", "advice"),
    [
        (1, NEXT, "set task.first_index = 1"),
        (5, f"{NEXT}\nfirst_index = 4", "set task.first_index = 5"),
        (1, LAST, "correct task.count_is"),
        (1, COUNT, "correct task.count_is"),
        (1, f"{LAST}\nfirst_index = 1", "correct task.count_is"),
        (1, 'count_view = "nextIndex()"\ncount_is = "count"\nfirst_index = 1', "correct task.count_is"),
        (0, f"{NEXT}\nfirst_index = 1", "correct task.first_index"),
    ],
)
async def test_slip_is_named_when_the_file_counts_otherwise(first: int, counted: str, advice: str, rigs: Rigs) -> None:
    rig = await rigs.make(first, counted)
    await rig.create("one", "two", "three")
    (message,) = await rig.messages()
    assert advice in message
    (finding,) = await rig.check()
    assert (finding.verdict, finding.check) == ("wrong", "count")
    assert advice in finding.message


async def test_prove_names_a_task_below_the_first_index(rigs: Rigs) -> None:
    rig = await rigs.make(0, f"{NEXT}\nfirst_index = 1")
    await rig.create("one", "two")
    proof = await rig.prove()
    assert (proof.ok, proof.mismatched, proof.first_index) == (False, [0], 1)


def test_artifact_is_of_the_source_beside_it() -> None:
    source = (CONTRACTS / "TaskCounter.sol").read_bytes()
    artifact = json.loads((CONTRACTS / "task_counter.json").read_text())
    assert artifact["source_sha256"] == hashlib.sha256(source).hexdigest(), "compile it with compile.mjs's settings"
