"""A node over a real chain: what it reads is what the contract holds, pinned to blocks, through reorgs."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.node_rig import CHAIN_ID, asking, running_chain
from tests.wizard import (
    ALL_TASK_HASHES,
    ALL_TASK_RESPONSES,
    CREATED_TOPIC,
    LATEST_TASK_NUM,
    RESPONDED_TOPIC,
    RESPONSE_WINDOW,
    TOPICS0,
    WIZARD,
    index_topic,
    sig_hash,
)
from watcher.chain.rpc.calls import LogQuery
from watcher.chain.rpc.errors import WrongChain
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.replies import Reverted
from watcher.devnet.chain import Chain, keep
from watcher.devnet.contract import call_data
from watcher.devnet.operators import Operators
from watcher.devnet.tasks import TaskManager, deploy, roles_of
from watcher.errors import NarrowRange, RetryElsewhere, StaleNode
from watcher.task import Header

C = WIZARD
WINDOW = 30


class World:
    """A chain with a task manager, and a node that reads it."""

    def __init__(self, chain: Chain, tasks: TaskManager, node: Node) -> None:
        self.chain, self.tasks, self.node = chain, tasks, node
        self.address = bytes.fromhex(tasks.address[2:])


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running_chain(tmp_path) as (chain, anvil), asking(anvil.http_url, batch_size=7) as node:
        yield World(chain, await deploy(chain, await roles_of(chain), WINDOW), node)


async def header(world: World, number: int) -> Header:
    reread = await world.node.header(number)
    assert reread is not None
    return reread


async def test_tasks_and_responses_hash_as_the_contract_stored_them(world: World) -> None:
    operator = await world.tasks.register("one", 100, b"\x00")
    messages = [b"", b"\xff\x00\n", b"x" * 1000, *(bytes([n]) for n in range(20))]
    await world.tasks.create_tasks(messages)
    stored_task, _ = await world.tasks.task_at(1, await world.chain.head())
    assert stored_task is not None
    signed = Operators([operator]).aggregate(
        sig_hash(1, b"answer"), stored_task.quorum_numbers, stored_task.created_block
    )
    await world.chain.receipt(await world.tasks.respond(stored_task, 1, b"answer", signed))

    head = await world.node.head()
    page = await world.node.page(LogQuery(world.address, TOPICS0, 0, head.number))
    tasks = [C.decode_task(log, CHAIN_ID, WINDOW) for log in page.logs if log.topics[0] == CREATED_TOPIC]
    responses = [C.decode_response(log) for log in page.logs if log.topics[0] == RESPONDED_TOPIC]

    assert (page.last, page.continuous, page.foreign) == (head, True, 0)
    assert [(task.task_index, task.message) for task in tasks] == list(enumerate(messages))
    calls = [LATEST_TASK_NUM.call(), RESPONSE_WINDOW.call()]
    calls += [ALL_TASK_HASHES.call(task.task_index) for task in tasks] + [ALL_TASK_RESPONSES.call(1)]
    count, window, *hashes, response = await world.node.views(calls, world.address, head)
    assert LATEST_TASK_NUM.read(count) == len(messages)
    assert RESPONSE_WINDOW.read(window) == WINDOW
    assert [ALL_TASK_HASHES.read(stored) for stored in hashes] == [task.task_hash for task in tasks]
    assert [seen.message for seen in responses] == [b"answer"]
    assert ALL_TASK_RESPONSES.read(response) == responses[0].response_hash
    (unknown,) = await world.node.views([ALL_TASK_HASHES.call(99)], world.address, head)
    assert ALL_TASK_HASHES.read(unknown) is None


async def test_a_task_is_found_by_its_index(world: World) -> None:
    await world.tasks.create_tasks([b"a", b"b", b"c"])
    head = await world.node.head()
    (log,) = await world.node.find(world.address, CREATED_TOPIC, index_topic(1), 0, head.number)
    assert C.decode_task(log, CHAIN_ID, None).message == b"b"
    assert await world.node.find(world.address, CREATED_TOPIC, index_topic(9), 0, head.number) == ()


async def test_a_receipt_says_whether_and_where_a_transaction_was_mined(world: World) -> None:
    index = await world.tasks.create_task(b"a")
    head = await world.node.head()
    (log,) = await world.node.find(world.address, CREATED_TOPIC, index_topic(index), head.number, head.number)
    reread = await world.node.transaction_receipt(log.tx_hash)
    assert reread is not None and (reread.status, reread.block_number, reread.block_hash) == (
        True,
        head.number,
        head.hash,
    )
    failed = await world.chain.send(
        world.tasks.roles.owner, world.tasks.address, call_data("setGenerator", "0x" + "00" * 20) + b"", gas=22_000
    )
    await world.chain.receipt(failed)
    reverted = await world.node.transaction_receipt(bytes.fromhex(failed[2:]))
    assert reverted is not None and not reverted.status
    assert await world.node.transaction_receipt(b"\x99" * 32) is None


async def test_a_span_beyond_the_head_is_a_stale_node_not_an_empty_page(world: World) -> None:
    head = await world.node.head()
    for first in (head.number, head.number + 1, head.number + 5):
        with pytest.raises(StaleNode, match="block"):
            await world.node.page(LogQuery(world.address, TOPICS0, first, head.number + 5))
    assert await world.node.header(head.number + 5) is None


async def test_safe_and_finalized_follow_the_head(world: World) -> None:
    head = await world.chain.mine(20)
    safe, finalized = await world.node.header("safe"), await world.node.header("finalized")
    assert safe is not None and finalized is not None
    assert (safe.number, finalized.number) == (head - 2, head - 4)
    assert (await header(world, head)).parent_hash == (await header(world, head - 1)).hash


async def test_a_reorg_is_seen_as_a_page_that_does_not_continue(world: World) -> None:
    await world.tasks.create_task(b"a")
    after = await world.node.head()
    await world.chain.mine(2)
    assert (
        await world.node.page(LogQuery(world.address, TOPICS0, after.number + 1, after.number + 2, after))
    ).continuous
    await world.chain.reorg(3, keep)
    page = await world.node.page(LogQuery(world.address, TOPICS0, after.number + 1, after.number + 2, after))
    assert not page.continuous
    assert (await header(world, after.number)).hash != after.hash


async def test_views_pinned_to_a_block_that_is_gone_are_no_evidence(world: World) -> None:
    await world.tasks.create_task(b"a")
    gone = await world.node.head()
    call = LATEST_TASK_NUM.call()
    assert LATEST_TASK_NUM.read((await world.node.views([call], world.address, gone))[0]) == 1
    await world.chain.reorg(1)
    with pytest.raises(StaleNode):
        await world.node.views([call], world.address, gone)
    now = await world.node.head()
    assert LATEST_TASK_NUM.read((await world.node.views([call], world.address, now))[0]) == 0


async def test_a_rolled_back_chain_is_a_stale_node(world: World) -> None:
    head = await world.chain.mine(5)
    await world.chain.rollback(3)
    with pytest.raises(StaleNode):
        await world.node.page(LogQuery(world.address, TOPICS0, 0, head))
    assert (await world.node.head()).number == head - 3


async def test_missing_function_and_missing_contract_are_told_apart_by_replies(world: World) -> None:
    head = await world.node.head()
    (no_function,) = await world.node.views([b"\x12\x34\x56\x78"], world.address, head)
    (no_contract,) = await world.node.views([LATEST_TASK_NUM.call()], b"\x55" * 20, head)
    assert isinstance(no_function, Reverted) and "revert" in no_function.message
    assert no_contract == b""


async def test_another_chain_is_refused_whatever_is_asked(tmp_path: Path) -> None:
    async with running_chain(tmp_path, chain_id=1337) as (_, anvil), asking(anvil.http_url) as node:
        for question in (
            node.chain_id(),
            node.head(),
            node.header(0),
            node.page(LogQuery(b"\x11" * 20, TOPICS0, 0, 0)),
        ):
            with pytest.raises(WrongChain, match="serves chain 1337"):
                await question


async def test_a_node_that_goes_away_and_comes_back_is_only_a_retry(tmp_path: Path) -> None:
    options = {"state_file": tmp_path / "state.json"}
    async with running_chain(tmp_path, **options) as (chain, anvil), asking(anvil.http_url) as node:
        await chain.mine(3)
        before = await node.head()
        await anvil.stop()
        with pytest.raises(RetryElsewhere, match="no connection") as caught:
            await node.page(LogQuery(b"\x11" * 20, TOPICS0, 0, 3))
        assert not isinstance(caught.value, NarrowRange)
        await anvil.start()
        assert await node.head() == before
