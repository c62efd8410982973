"""Holes in the indices: found by the contract's count, and searched for where they can lie and nowhere else."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from tests.integration.node_rig import Answers, relaying
from watcher.chain.admit import Admit
from watcher.chain.contract import TaskManager
from watcher.chain.convention.convention import convention
from watcher.chain.reconcile import Reconcile
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.source import Source
from watcher.chain.watch import Watch, WatchPlan
from watcher.clock import SystemClock
from watcher.devnet.world import Devnet, DevnetOptions
from watcher.ledger import by_index, schema
from watcher.ledger.engine import parse_url
from watcher.ledger.store import Ledger, open_ledger

SPAN = 10


@dataclass
class Rig:
    """A node that hides some tasks, shows them when they are asked for by index, and keeps only the state of its head.

    `searched` holds the ranges of blocks in which a task was asked for by its index.
    """

    net: Devnet
    contract: TaskManager
    ledger: Ledger
    source: Source
    watch: Watch
    admit: Admit
    start_block: int
    hidden: set[int] = field(default_factory=set)
    withheld: set[int] = field(default_factory=set)  # by index as well
    searched: list[tuple[int, int]] = field(default_factory=list)

    def twist(self, asked: Answers, answers: Answers) -> Answers:
        for place, (request, answer) in enumerate(zip(asked, answers, strict=True)):
            if request["method"] == "eth_getLogs":
                where = request["params"][0]
                by_index = len(where["topics"]) > 1
                if by_index:
                    self.searched.append((int(where["fromBlock"], 16), int(where["toBlock"], 16)))
                gone = self.withheld if by_index else self.hidden
                answer["result"] = [log for log in answer["result"] if int(log["topics"][1], 16) not in gone]
            elif request["method"] == "eth_call" and request["params"][1]["blockHash"] != self.head_hash:
                error = {"code": -32000, "message": "missing trie node"}
                answers[place] = {"jsonrpc": "2.0", "id": request["id"], "error": error}
        return answers

    head_hash = ""

    async def reconcile(self) -> None:
        """Read up to the head, and prove what was read."""
        header = await self.net.chain.block("latest")
        assert header is not None
        self.head_hash = header["hash"]
        while await self.watch.step() == 0:
            pass
        await self.admit.step()

    async def repair(self) -> int:
        self.searched.clear()
        return await Reconcile(self.source, self.watch.reader).run()

    async def create(self) -> int:
        """One task in a block of its own, with empty ones around it; the block it stands in."""
        await self.net.mine(3)
        await self.net.create_tasks([b"a task"])
        block = await self.net.chain.head()
        await self.net.mine(3)
        return block

    async def known(self) -> set[int]:
        return await self.ledger.read(by_index.known_indices, self.ledger.source_id, 0, 100)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rigged(tmp_path, before=3) as rig:
        yield rig


@asynccontextmanager
async def rigged(tmp_path: Path, *, before: int) -> AsyncIterator[Rig]:
    """`before`: how many tasks there were when the watcher began."""
    async with AsyncExitStack() as stack:
        options = DevnetOptions(directory=tmp_path / "net", mining="auto", persist=False)
        net = await stack.enter_async_context(Devnet(options))
        if before:
            await net.create_tasks([b"before the watcher began"] * before)
        relay = await stack.enter_async_context(relaying(net.rpc_url))
        clock = SystemClock()
        nodes = NodePool([Node(relay.url, net.chain_id, clock)], clock, Random(1))
        stack.push_async_callback(nodes.close)
        address = bytes.fromhex(net.task_manager[2:])
        contract = TaskManager(nodes, address, convention("wizard"), SPAN)
        url = parse_url(f"sqlite:///{tmp_path / 'watcher.db'}")
        schema.upgrade(url)
        start_block = await net.chain.head() + 1
        ledger = await stack.enter_async_context(open_ledger(url, clock, net.chain_id, address, start_block))
        source = Source(nodes, contract, ledger, clock, 100)
        watch = Watch(source, WatchPlan(net.chain_id, 4, SPAN, 1))
        rig = Rig(net, contract, ledger, source, watch, Admit(source, 0, 1), start_block)
        relay.twist = rig.twist
        yield rig


async def test_a_hole_is_searched_for_between_its_neighbours(rig: Rig) -> None:
    rig.hidden = {4}
    first = await rig.create()
    hole = await rig.create()
    after = await rig.create()
    await rig.net.mine(30)
    await rig.reconcile()
    assert await rig.known() == {3, 5}
    assert await rig.repair() == 1
    assert await rig.known() == {3, 4, 5}
    assert first < hole < after
    assert rig.searched == [(rig.start_block, first), (first, after)], "is there one below? and the hole"


async def test_a_task_before_the_first_one_known_is_found(rig: Rig) -> None:
    rig.hidden = {3}
    await rig.create()
    second = await rig.create()
    await rig.reconcile()
    assert await rig.known() == {4}
    assert await rig.repair() == 1
    assert await rig.known() == {3, 4}
    assert all(last <= second for _, last in rig.searched)


async def test_the_newest_task_is_searched_for_up_to_the_cursor(rig: Rig) -> None:
    rig.hidden = {4}
    await rig.create()
    newest = await rig.create()
    await rig.net.mine(5)
    await rig.reconcile()
    assert await rig.repair() == 1
    assert await rig.known() == {3, 4}
    assert any(first <= newest <= last for first, last in rig.searched)


async def test_hole_is_searched_in_every_pass_while_it_stays(rig: Rig) -> None:
    rig.hidden = rig.withheld = {4}
    for _ in range(3):
        await rig.create()
    await rig.reconcile()
    for _ in range(2):
        assert await rig.repair() == 0
        assert rig.searched
    rig.withheld = set()
    assert await rig.repair() == 1


async def test_a_contract_without_tasks_has_no_holes(tmp_path: Path) -> None:
    async with rigged(tmp_path, before=0) as rig:
        await rig.reconcile()
        assert await rig.repair() == 0
        assert rig.searched == []


async def test_all_blocks_are_searched_once_while_no_task_is_known(rig: Rig) -> None:
    rig.hidden = rig.withheld = {3}
    await rig.net.mine(25)
    reconcile = Reconcile(rig.source, rig.watch.reader)
    searches = []
    for step in range(4):
        if step == 2:
            await rig.create()  # and no node shows it
        await rig.reconcile()
        rig.searched.clear()
        assert await reconcile.run() == 0
        searches.append(len(rig.searched))
        await rig.net.mine()
    assert searches[0] > 0
    assert searches[1] == 0, "the count stands still"
    assert searches[2] > 0, "there is a new one"
    assert searches[3] > 0, "and it is still missing"
    rig.withheld = set()
    await rig.reconcile()
    assert await reconcile.run() == 1
    assert await rig.known() == {3}


async def test_row_that_vanished_from_the_database_is_read_again(rig: Rig, tmp_path: Path) -> None:
    for _ in range(3):
        await rig.create()
    await rig.reconcile()
    reconcile = Reconcile(rig.source, rig.watch.reader)
    assert (await reconcile.run(), await rig.known()) == (0, {3, 4, 5})  # and counted as covered
    with closing(sqlite3.connect(tmp_path / "watcher.db")) as connection, connection:
        for table in ("journal", "attempts"):
            connection.execute(f"DELETE FROM {table} WHERE task_id IN (SELECT id FROM tasks WHERE task_index = 4)")
        connection.execute("DELETE FROM tasks WHERE task_index = 4")
    assert (await reconcile.run(), await rig.known()) == (1, {3, 4, 5})
