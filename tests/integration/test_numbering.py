"""Chains whose contracts count the parent chain's blocks: found out, followed, or refused."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.integration.l1_rig import L1Relay, l1_relaying
from tests.integration.node_rig import CHAIN_ID, Answers, asking, relaying, running_chain
from tests.kit.clocks import AheadClock
from watcher.chain.admit import Admit
from watcher.chain.confirm import Confirm
from watcher.chain.contract import TaskManager
from watcher.chain.convention.convention import convention
from watcher.chain.numbering import Numbering, UnknownNumbering, contradiction, last_block, settle
from watcher.chain.resolve import Resolver
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.source import Source
from watcher.chain.watch import Watch, WatchPlan
from watcher.devnet.world import Devnet, DevnetOptions
from watcher.errors import RetryElsewhere
from watcher.ledger import queries, schema
from watcher.ledger.engine import parse_url
from watcher.ledger.store import Ledger, open_ledger
from watcher.state import State
from watcher.task import Expired, Header, NotYet, OpenTask
from watcher.testing import make_task

WINDOW = 6
SUPPOSED = Numbering(l1_blocks=False, proved=False)


@asynccontextmanager
async def nodes_at(*urls: str, clock: AheadClock | None = None) -> AsyncIterator[NodePool]:
    clock = clock or AheadClock()
    nodes = NodePool([Node(url, CHAIN_ID, clock) for url in urls], clock, Random(1))
    try:
        yield nodes
    finally:
        await nodes.close()


async def test_plain_chain_counts_own_blocks(tmp_path: Path) -> None:
    async with running_chain(tmp_path) as (_, anvil), nodes_at(anvil.http_url) as nodes:
        assert await settle(nodes, AheadClock()) == Numbering(l1_blocks=False, proved=True)
        assert (await nodes.head()).l1_block is None


async def test_parents_blocks_are_found_however_many_blocks_share_one(tmp_path: Path) -> None:
    async with running_chain(tmp_path) as (chain, anvil), l1_relaying(anvil.http_url, 48) as relay:
        await chain.mine(7)
        async with nodes_at(relay.url) as nodes:
            assert await settle(nodes, AheadClock()) == Numbering(l1_blocks=True, proved=True)
            head = await nodes.head()
            assert (head.number, head.l1_block, head.closed_block) == (relay.number(7, 47), 7, 6)


async def test_parents_blocks_are_supposed_when_no_call_can_tell(tmp_path: Path) -> None:
    async with running_chain(tmp_path) as (chain, anvil), l1_relaying(anvil.http_url) as relay:
        await chain.mine(7)
        relay.answers_creation = False
        async with nodes_at(relay.url) as nodes:
            assert await settle(nodes, AheadClock()) == Numbering(l1_blocks=True, proved=False)


async def test_l1_block_number_is_ignored_when_contracts_count_own_blocks(tmp_path: Path) -> None:
    def adding(asked: Answers, answers: Answers) -> Answers:
        for ask, answer in zip(asked, answers, strict=True):
            if ask["method"] == "eth_getBlockByNumber":
                answer["result"]["l1BlockNumber"] = "0x1605d43"
        return answers

    async with running_chain(tmp_path) as (_, anvil), relaying(anvil.http_url) as relay, nodes_at(relay.url) as nodes:
        relay.twist = adding
        assert not (await settle(nodes, AheadClock())).l1_blocks
        assert (await nodes.head()).closed_block == 0


async def test_chain_is_refused_when_its_blocks_do_not_show_what_is_counted(tmp_path: Path) -> None:
    async with running_chain(tmp_path) as (chain, anvil), l1_relaying(anvil.http_url) as relay:
        await chain.mine(7)
        relay.shows_l1 = False
        async with nodes_at(relay.url) as nodes:
            with pytest.raises(
                UnknownNumbering, match=r"contracts on this chain see block 7 where .* 1000007 and shows no"
            ):
                await settle(nodes, AheadClock())
            # A person may know better, and is believed.
            assert await settle(nodes, AheadClock(), "own") == Numbering(l1_blocks=False, proved=True)
            with pytest.raises(UnknownNumbering, match="no node shows l1BlockNumber"):
                await settle(nodes, AheadClock(), "parent")


async def test_chain_is_refused_when_its_l1_block_is_not_what_contracts_see(tmp_path: Path) -> None:
    async with running_chain(tmp_path) as (chain, anvil), l1_relaying(anvil.http_url) as relay:
        await chain.mine(7)
        relay.claims_l1 = 21_000_000
        async with nodes_at(relay.url) as nodes:
            with pytest.raises(UnknownNumbering, match="shows 21000000 as l1BlockNumber"):
                await settle(nodes, AheadClock())


async def test_chain_is_not_refused_for_one_odd_node(tmp_path: Path) -> None:
    async with running_chain(tmp_path) as (chain, anvil), l1_relaying(anvil.http_url) as odd:
        await chain.mine(7)
        odd.shows_l1 = False
        async with nodes_at(odd.url, anvil.http_url) as nodes:
            assert await settle(nodes, AheadClock()) == Numbering(l1_blocks=False, proved=True)
        async with nodes_at(odd.url) as nodes, l1_relaying(anvil.http_url) as good, nodes_at(odd.url, good.url) as both:
            assert (await settle(both, AheadClock())).l1_blocks
            with pytest.raises(UnknownNumbering):
                await settle(nodes, AheadClock())


async def test_node_with_an_empty_state_refuses_no_chain(tmp_path: Path) -> None:
    """A replica that has just started gives zeros for seconds, to each of the readings."""

    def zeros(asked: Answers, answers: Answers) -> Answers:
        return [
            answer | {"result": "0x" + "00" * 32} if ask["method"] == "eth_call" else answer
            for ask, answer in zip(asked, answers, strict=True)
        ]

    async with running_chain(tmp_path) as (chain, anvil), relaying(anvil.http_url) as relay:
        await chain.mine(7)
        relay.twist = zeros
        async with nodes_at(relay.url) as nodes:
            with pytest.raises(RetryElsewhere):
                await settle(nodes, AheadClock())
        relay.twist = lambda _, answers: answers
        async with nodes_at(relay.url) as nodes:
            assert await settle(nodes, AheadClock()) == Numbering(l1_blocks=False, proved=True)


async def test_nodes_that_disagree_are_asked_again(tmp_path: Path) -> None:
    async with running_chain(tmp_path) as (chain, anvil), l1_relaying(anvil.http_url) as other:
        await chain.mine(7)
        async with nodes_at(anvil.http_url, other.url) as nodes:
            with pytest.raises(RetryElsewhere, match="do not agree"):
                await settle(nodes, AheadClock())


async def test_head_without_l1_block_is_no_answer_where_contracts_count_those(tmp_path: Path) -> None:
    async with (
        running_chain(tmp_path) as (chain, anvil),
        l1_relaying(anvil.http_url) as relay,
        asking(relay.url) as node,
    ):
        await chain.mine(7)
        node.l1_blocks = True
        relay.shows_l1 = False
        with pytest.raises(RetryElsewhere, match="has no l1BlockNumber"):
            await node.head()
        with pytest.raises(RetryElsewhere, match="has no l1BlockNumber"):
            await node.header("finalized")
        old = await node.header(relay.number(3))
        assert old is not None
        assert old.closed_block == -1, "no deadline is past by a block that does not show what contracts count"


async def test_last_block_of_an_l1_block_is_found(tmp_path: Path) -> None:
    async with running_chain(tmp_path) as (chain, anvil), l1_relaying(anvil.http_url, 48) as relay:
        await chain.mine(9)
        async with nodes_at(relay.url) as nodes:
            await settle(nodes, AheadClock())
            block = await last_block(nodes, 5, relay.number(2), await nodes.head())
            assert block is not None
            assert (block.number, block.contract_block) == (relay.number(5, 47), 5)
            assert await last_block(nodes, 1, relay.number(2), await nodes.head()) is None


@pytest.mark.parametrize(
    ("created_block", "numbering", "contradicts"),
    [
        (21_000_000, SUPPOSED, True),
        (5, SUPPOSED, True),
        (300_000_000, SUPPOSED, False),
        (299_999_000, SUPPOSED, False),  # a reference block somewhat before its own
        (5, Numbering(l1_blocks=False, proved=True), False),
        (5, Numbering(l1_blocks=True, proved=False), False),
    ],
)
def test_created_block_contradicts_when_far_from_its_log(
    created_block: int, numbering: Numbering, contradicts: bool
) -> None:
    task = make_task(created_block=300_000_000)
    assert (contradiction(replace(task, created_block=created_block), numbering) is not None) is contradicts


class Stages:
    """The chain's stages over a devnet that a relay shows as an Arbitrum-like chain."""

    def __init__(
        self, net: Devnet, relay: L1Relay, nodes: NodePool, ledger: Ledger, clock: AheadClock, numbering: Numbering
    ) -> None:
        self.net, self.relay, self.nodes, self.ledger = net, relay, nodes, ledger
        self.clock = clock
        self.contract = TaskManager(nodes, book_address(net), convention("wizard"), 100)
        source = Source(nodes, self.contract, ledger, clock, WINDOW, numbering)
        plan = WatchPlan(net.chain_id, "finalized", 10_000, 1)
        self.watch = Watch(source, plan)
        self.resolver = Resolver(source)
        self.admit = Admit(source, 0, 1)
        self.confirm = Confirm(source, 1)

    async def catch_up(self) -> None:
        while await self.watch.step() == 0:
            pass
        await self.admit.step()
        await self.confirm.step()

    async def task(self) -> tuple[State, OpenTask]:
        from watcher.ledger.rows import open_task

        rows = await self.ledger.read(lambda conn: list(queries.list_tasks(conn, self.ledger.source_id)))
        row = open_task(rows[0])
        return row.state, row


def book_address(net: Devnet) -> bytes:
    return bytes.fromhex(net.task_manager[2:])


@asynccontextmanager
async def staged(folder: Path, numbering: Numbering, blocks_per_l1: int = 40) -> AsyncIterator[Stages]:
    async with AsyncExitStack() as stack:
        options = DevnetOptions(
            directory=folder / "net", mining="manual", window_blocks=WINDOW, slots_in_epoch=1, persist=False
        )
        net = await stack.enter_async_context(Devnet(options))
        relay = await stack.enter_async_context(l1_relaying(net.rpc_url, blocks_per_l1))
        clock = AheadClock()
        nodes = await stack.enter_async_context(nodes_at(relay.url, clock=clock))
        url = parse_url(f"sqlite:///{folder / 'watcher.db'}")
        schema.upgrade(url)
        start_block = (await nodes.head()).number
        ledger = await stack.enter_async_context(open_ledger(url, clock, net.chain_id, book_address(net), start_block))
        if numbering.proved:
            assert await settle(nodes, AheadClock()) == numbering
        yield Stages(net, relay, nodes, ledger, clock, numbering)


async def test_window_stays_open_while_the_l1_block_stands_still(tmp_path: Path) -> None:
    async with staged(tmp_path, Numbering(l1_blocks=True, proved=True)) as stages:
        stages.relay.place = 0
        await stages.net.create_tasks([b"\1" * 32])
        await stages.catch_up()
        state, open_task = await stages.task()
        created = open_task.task.created_block
        assert (state, open_task.task.deadline_block) == (State.READY, created + WINDOW)
        # As many blocks as the window and more pass on the chain, and none as contracts count.
        stages.relay.place = 39
        await stages.catch_up()
        cursor = await stages.ledger.read(queries.cursor, stages.ledger.source_id)
        assert (cursor.head_block, cursor.head_l1_block) == (stages.relay.number(created, 39), created)
        assert isinstance((await stages.resolver.resolve([open_task]))[0], NotYet)
        # In the deadline's own L1 block there may be one more block to be answered in; in the next one there is none.
        await stages.net.mine(WINDOW)
        await stages.catch_up()
        assert isinstance((await stages.resolver.resolve([open_task]))[0], NotYet)
        assert (await stages.task())[0] is State.READY
        await stages.net.mine()
        await stages.clock.sleep(1)  # a look at the chain serves all stages for half a second
        assert isinstance((await stages.resolver.resolve([open_task]))[0], Expired)


async def test_task_expires_once_a_final_l1_block_is_past_its_deadline(tmp_path: Path) -> None:
    async with staged(tmp_path, Numbering(l1_blocks=True, proved=True)) as stages:
        await stages.net.create_tasks([b"\1" * 32])
        for _ in range(WINDOW + 2):  # final is two blocks of the parent chain behind the head
            await stages.net.mine()
            await stages.catch_up()
            assert (await stages.task())[0] is State.READY
        for _ in range(5):  # zero is read twice, apart in time, before it counts
            await stages.net.mine()
            await stages.clock.sleep(10)
            await stages.catch_up()
        cursor = await stages.ledger.read(queries.cursor, stages.ledger.source_id)
        assert cursor.final_l1_block is not None
        state, open_task = await stages.task()
        assert open_task.task.deadline_block is not None
        assert cursor.final_l1_block > open_task.task.deadline_block
        assert state is State.EXPIRED


async def test_watch_refuses_tasks_that_count_other_blocks(tmp_path: Path) -> None:
    async with staged(tmp_path, SUPPOSED) as stages:
        for node in stages.nodes.nodes:
            node.l1_blocks = False
        await stages.net.create_tasks([b"\1" * 32])
        with pytest.raises(UnknownNumbering, match="task 0 was created in block"):
            await stages.catch_up()
        assert not await stages.ledger.read(lambda conn: list(queries.list_tasks(conn, stages.ledger.source_id)))


async def test_forged_task_refuses_no_chain(tmp_path: Path) -> None:
    async with staged(tmp_path, SUPPOSED) as stages:
        await stages.net.create_tasks([b"\1" * 32])
        task = make_task(created_block=1)
        far = replace(task, task_index=0, seen_at=replace(task.seen_at, block_number=1_000_000))
        await stages.watch._refuse_other_numbering([far], await stages.nodes.head())


def test_header_without_l1_block_counts_its_own() -> None:
    assert Header(7, b"", b"").closed_block == Header(7, b"", b"").contract_block == 7
    assert Header(7, b"", b"", l1_block=3).contract_block == 3
