"""A node that invented blocks leaves the cursor above the chain: the watch goes back once, and reads what it missed."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest
from loguru import logger

from tests.integration.invented_blocks import Inventor
from tests.integration.node_rig import relaying
from tests.kit.clocks import SetClock
from watcher.chain.contract import TaskManager
from watcher.chain.convention.convention import convention
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.source import Source
from watcher.chain.watch import Watch, WatchPlan
from watcher.devnet.chain import drop
from watcher.devnet.world import Devnet, DevnetOptions
from watcher.errors import Halt
from watcher.ledger import queries, schema
from watcher.ledger.cursor import Cursor
from watcher.ledger.engine import parse_url
from watcher.ledger.store import Ledger, open_ledger

AHEAD = 500
POLL_S = 12.0


@pytest.fixture
def lines() -> Iterator[list[str]]:
    records: list[str] = []

    def collect(message: Any) -> None:
        record = message.record
        records.append(f"{record['message'].partition(':')[0]} {record['extra'].get('block')}")

    sink = logger.add(collect, level="WARNING")
    yield records
    logger.remove(sink)


class Rig:
    """A devnet whose only node may invent blocks, and the watch over a ledger, by a clock that goes on with blocks."""

    def __init__(self, net: Devnet, url: str, ledger: Ledger, clock: SetClock, liar: Inventor) -> None:
        self.net, self.url, self.ledger, self.clock, self.liar = net, url, ledger, clock, liar
        self.watch: Watch
        self.nodes: NodePool

    def start(self, finality: str | int = "finalized", honest: int = 0) -> None:
        """The watch as a daemon makes it at its start: it knows nothing but the ledger. `honest`: nodes beside."""
        urls = [self.url, *[self.net.rpc_url] * honest]
        nodes = [Node(url, self.net.chain_id, self.clock) for url in urls]
        self.nodes = NodePool(nodes, self.clock, Random(1))
        contract = TaskManager(self.nodes, bytes.fromhex(self.net.task_manager[2:]), convention("wizard"), 100)
        plan = WatchPlan(self.net.chain_id, finality, 2000, POLL_S)
        self.watch = Watch(Source(self.nodes, contract, self.ledger, self.clock, 100), plan)

    async def poll(self) -> None:
        """Step until there is nothing to read."""
        while await self.watch.step() == 0:
            pass

    async def slot(self, blocks: int = 1) -> None:
        """Twelve seconds for this machine, in which the chain makes so many blocks, each as young as it should be."""
        for _ in range(blocks):
            await self.net.chain.rpc.call("evm_setNextBlockTimestamp", hex(self.clock.now_ms() // 1000 + 1))
            await self.net.mine()
        await self.clock.sleep(POLL_S)

    async def poison(self) -> None:
        """The node invents for the length of one poll, in which a true task is made."""
        self.liar.ahead = AHEAD
        await self.poll()
        await self.net.create_tasks([(1).to_bytes(32)])
        self.liar.ahead = 0

    async def until_read(self, slots: int) -> int:
        """After how many slots the cursor is at the head."""
        for slot in range(slots):
            await self.poll()
            if (await self.cursor()).block == await self.net.chain.head():
                return slot
            await self.slot()
        raise AssertionError(f"not healed within {slots} slots")

    async def cursor(self) -> Cursor:
        return await self.ledger.read(queries.cursor, self.ledger.source_id)

    async def tasks(self) -> dict[int, bool]:
        """Whether the chain holds each task, as far as the ledger knows."""
        rows = await self.ledger.read(lambda conn: list(queries.list_tasks(conn, self.ledger.source_id)))
        return {row.task_index: row.canonical for row in rows}

    async def events(self) -> list[str]:
        return [event.kind for event in await self.ledger.read(queries.recent_events, self.ledger.source_id)]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        options = DevnetOptions(directory=tmp_path / "net", mining="auto", window_blocks=100, persist=False)
        net = await stack.enter_async_context(Devnet(options))
        relay = await stack.enter_async_context(relaying(net.rpc_url))
        relay.twist = liar = Inventor()
        newest = await net.chain.block("latest")
        assert newest is not None
        clock = SetClock((int(newest["timestamp"], 16) + 100) * 1000)
        url = parse_url(f"sqlite:///{tmp_path / 'watcher.db'}")
        schema.upgrade(url)
        address = bytes.fromhex(net.task_manager[2:])
        ledger = await stack.enter_async_context(open_ledger(url, clock, net.chain_id, address, 1))
        rig = Rig(net, relay.url, ledger, clock, liar)
        rig.start()
        await net.create_tasks([(0).to_bytes(32)])
        await rig.slot()
        await rig.poll()
        yield rig
        await rig.nodes.close()


async def test_a_cursor_on_invented_blocks_goes_back_once(rig: Rig, lines: list[str]) -> None:
    true_head = (await rig.cursor()).block
    await rig.poison()
    assert (await rig.cursor()).block == true_head + AHEAD
    assert await rig.until_read(10) >= 2, "not before the chain has gone on"
    assert await rig.tasks() == {0: True, 1: True}
    assert [line for line in lines if "chain.blocks_invented" in line] == [f"chain.blocks_invented {true_head + AHEAD}"]
    assert (await rig.events()).count("cursor taken back") == 1
    cursor = await rig.cursor()
    assert cursor.head_block == cursor.block, "the mark of the head is lowered with it"


async def test_a_poisoned_ledger_heals_when_the_watch_starts_anew(rig: Rig) -> None:
    await rig.poison()
    await rig.nodes.close()
    rig.start()
    await rig.until_read(10)
    assert await rig.tasks() == {0: True, 1: True}


async def test_nothing_goes_back_while_a_node_lags_and_follows(rig: Rig) -> None:
    """It shows the chain four blocks late, for ten minutes: what was read is younger than all it shows."""
    for _ in range(5):
        await rig.slot()
    await rig.poll()
    before = await rig.cursor()
    await rig.net.chain.rollback(4)
    newest = await rig.net.chain.block("latest")
    assert newest is not None
    for late in range(3):
        for _ in range(16):
            await rig.poll()
            await rig.clock.sleep(POLL_S)
        await rig.net.chain.rpc.call("evm_setNextBlockTimestamp", hex(int(newest["timestamp"], 16) + 12 * late + 12))
        await rig.net.mine()
    await rig.poll()
    assert await rig.cursor() == before
    assert "cursor taken back" not in await rig.events()


async def test_a_restored_node_that_catches_up_moves_no_cursor(rig: Rig) -> None:
    for _ in range(60):
        await rig.slot()
    await rig.poll()
    before = await rig.cursor()
    read = [await rig.net.chain.block(number) for number in range(before.block - 54, before.block)]
    await rig.net.chain.rollback(55)
    for block in read:
        assert block is not None
        await rig.poll()
        await rig.clock.sleep(2)
        await rig.net.chain.rpc.call("evm_setNextBlockTimestamp", block["timestamp"])
        await rig.net.mine()
    await rig.poll()
    assert await rig.cursor() == before


async def test_a_node_that_invents_again_is_left_later_each_time(rig: Rig) -> None:
    waits = []
    for _ in range(5):
        rig.liar.ahead = AHEAD
        await rig.poll()
        rig.liar.ahead = 0
        waits.append(await rig.until_read(20))
    assert waits == sorted(waits)
    assert waits[4] >= 160 / POLL_S > waits[0], "ten seconds, doubled four times"
    assert (await rig.events()).count("cursor taken back") == 5


async def test_a_cursor_heals_when_the_chains_clock_is_hours_behind(rig: Rig) -> None:
    rig.clock.at_ms += 7_200_000
    await rig.poison()
    newest = await rig.net.chain.block("latest")
    assert newest is not None
    for slot in range(1, 60):
        await rig.poll()
        if (await rig.cursor()).block == await rig.net.chain.head():
            break
        await rig.net.chain.rpc.call("evm_setNextBlockTimestamp", hex(int(newest["timestamp"], 16) + 12 * slot))
        await rig.net.mine()
        await rig.clock.sleep(POLL_S)
    assert await rig.tasks() == {0: True, 1: True}
    assert slot >= 50, "ten minutes of the chain's own time"


async def test_a_cursor_below_firm_finality_is_not_left(rig: Rig) -> None:
    """The node counted finality in its own blocks: only a person can say which chain is meant."""
    await rig.nodes.close()
    rig.start(finality=10)
    await rig.poison()
    before = await rig.cursor()
    assert before.firm_block > await rig.net.chain.head()
    for _ in range(10):
        await rig.poll()
        await rig.slot()
    assert await rig.cursor() == before


async def test_a_reorg_heals_when_one_node_of_three_made_it_final_by_depth(rig: Rig) -> None:
    """One node was four blocks ahead. The block that changes was the head of the two others."""
    await rig.nodes.close()
    rig.start(finality=4, honest=2)
    for _ in range(6):
        await rig.slot()
    await rig.poll()
    true_head = await rig.net.chain.head()
    rig.liar.ahead = 4
    await rig.poll()
    assert (await rig.cursor()).block == true_head + 4, "one node alone ahead is followed"
    rig.liar.ahead = 0
    await rig.net.chain.reorg(1, drop)
    await rig.until_read(20)
    assert "finality broken" not in await rig.events()


async def test_watch_halts_when_a_block_final_at_all_nodes_changes(rig: Rig) -> None:
    await rig.nodes.close()
    rig.start(finality=2, honest=2)
    for _ in range(6):
        await rig.slot()
    await rig.poll()
    await rig.net.chain.reorg(4, drop)
    await rig.slot()
    with pytest.raises(Halt, match="was final and has changed"):
        await rig.poll()
