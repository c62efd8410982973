"""A convention that the contract contradicts: nothing fails, and tasks would wait in silence."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from eth_hash.auto import keccak
from loguru import logger

from tests.integration.convention_rig import WIZARD, respond
from tests.integration.node_rig import Answers, Relay, relaying
from watcher.chain.consistency import Consistency
from watcher.chain.contract import TaskManager
from watcher.chain.convention.convention import convention
from watcher.chain.recheck import Recheck
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.source import Source
from watcher.chain.watch import Watch, WatchPlan
from watcher.clock import SystemClock
from watcher.devnet.world import Devnet, DevnetOptions
from watcher.ledger import schema
from watcher.ledger.engine import parse_url
from watcher.ledger.store import open_ledger

PRESET = Path(convention.__code__.co_filename).with_name("presets") / "wizard.toml"
RESPONSES = 'hash = ["taskResponse", "taskResponseMetadata"]\nhash_view = "allTaskResponses(uint32)"'


@dataclass
class Rig:
    net: Devnet
    relay: Relay
    watch: Watch
    recheck: Recheck
    consistency: Consistency

    async def polls(self, count: int = 2) -> tuple[str, ...]:
        while await self.watch.step() == 0:
            pass
        for _ in range(count):
            await self.consistency.run()
        return self.consistency.messages

    async def answer(self, index: int, block: int) -> None:
        await respond(self.net, WIZARD, index, block)
        await self.net.mine()


@asynccontextmanager
async def rigged(folder: Path, *changes: tuple[str, str]) -> AsyncIterator[Rig]:
    """The wizard's contract, described with these changes of the preset."""
    text = PRESET.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = folder / "own.toml"
    file.write_text(text)
    async with AsyncExitStack() as stack:
        options = DevnetOptions(directory=folder / "net", mining="auto", persist=False)
        net = await stack.enter_async_context(Devnet(options))
        relay = await stack.enter_async_context(relaying(net.rpc_url))
        clock = SystemClock()
        nodes = NodePool([Node(relay.url, net.chain_id, clock)], clock, Random(1))
        stack.push_async_callback(nodes.close)
        address = bytes.fromhex(net.task_manager[2:])
        contract = TaskManager(nodes, address, convention("custom", file), 100)
        url = parse_url(f"sqlite:///{folder / 'watcher.db'}")
        schema.upgrade(url)
        ledger = await stack.enter_async_context(open_ledger(url, clock, net.chain_id, address, 1))
        source = Source(nodes, contract, ledger, clock, window_blocks=100)
        watch = Watch(source, WatchPlan(net.chain_id, 4, 100, 1))
        recheck = Recheck(source, watch.reader, 0, 100, 1)
        yield Rig(net, relay, watch, recheck, Consistency(source))


async def test_consistency_reports_nothing_when_the_convention_is_right(tmp_path: Path) -> None:
    async with rigged(tmp_path) as rig:
        assert await rig.polls() == ()
        await rig.net.create_tasks([WIZARD.question] * 2)
        block = await rig.net.chain.head()
        assert await rig.polls() == ()
        await rig.answer(0, block)
        assert await rig.polls() == ()


@pytest.mark.parametrize(
    "view",
    [
        'hash_view = "allTaskHashes(uint32)"',  # what a task is, not whether it is answered
        'hash_view = "responseWindow(uint32)"',
    ],
)
async def test_consistency_reports_a_view_that_says_answered_from_the_start(view: str, tmp_path: Path) -> None:
    name = view.partition('"')[2].partition("(")[0]

    def always(asked: Answers, answers: Answers) -> Answers:
        """A contract with a view that holds 1 for every task."""
        selector = "0x" + keccak(b"responseWindow(uint32)")[:4].hex()
        return [
            {"jsonrpc": "2.0", "id": reply["id"], "result": "0x" + f"{1:064x}"}
            if ask["method"] == "eth_call" and (ask["params"][0].get("data") or "").startswith(selector)
            else reply
            for ask, reply in zip(asked, answers, strict=True)
        ]

    async with rigged(tmp_path, (RESPONSES, view)) as rig:
        rig.relay.twist = always
        await rig.net.create_tasks([WIZARD.question] * 2)
        await rig.net.mine(3)
        assert await rig.polls(1) == (), "one look may meet a block half read"
        (message,) = await rig.polls(1)
        assert f"{name}(uint32) is not zero for task 1 in the block that made it" in message
        assert "(equals)" in message


@pytest.mark.parametrize(
    "change",
    [
        (RESPONSES, RESPONSES.replace('"taskResponse", "taskResponseMetadata"', '"taskResponse"')),
        ("TaskResponded(", "TaskAnswered("),
        ('index = "taskResponse.referenceTaskIndex"', 'index = "taskResponseMetadata.taskResponsedBlock"'),
    ],
    ids=["response.hash", "response.event", "response.index"],
)
async def test_consistency_reports_an_answer_that_no_log_shows(change: tuple[str, str], tmp_path: Path) -> None:
    async with rigged(tmp_path, change) as rig:
        await rig.net.create_tasks([WIZARD.question] * 2)
        block = await rig.net.chain.head()
        assert await rig.polls() == ()
        await rig.answer(1, block)
        (message,) = await rig.polls()
        assert "says that task 1 is answered, and no log shows an answer" in message
        assert "correct response.event, response.index, response.hash" in message


async def test_consistency_ends_a_report_when_the_log_is_shown(tmp_path: Path) -> None:
    def withholding(asked: Answers, answers: Answers) -> Answers:
        return [
            reply | {"result": []} if ask["method"] == "eth_getLogs" else reply
            for ask, reply in zip(asked, answers, strict=True)
        ]

    async with rigged(tmp_path) as rig:
        await rig.net.create_tasks([WIZARD.question])
        block = await rig.net.chain.head()
        assert await rig.polls() == ()
        rig.relay.twist = withholding
        await rig.answer(0, block)
        (message,) = await rig.polls()
        assert "if this one withholds logs" in message
        rig.relay.twist = lambda _asked, answers: answers
        await rig.net.mine(20)
        await rig.polls(0)
        await rig.recheck.step()
        assert await rig.polls(1) == ()


async def test_consistency_reports_a_count_view_the_contract_lacks(tmp_path: Path) -> None:
    async with rigged(tmp_path, ('count_view = "latestTaskNum()"', 'count_view = "taskCount()"')) as rig:
        await rig.net.mine(3)
        (message,) = await rig.polls()
        assert "the contract has no taskCount()" in message
        assert "correct task.count_view, or leave it out" in message


async def test_consistency_logs_each_contradiction_once(tmp_path: Path) -> None:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message.record["extra"].get("reason"))), level="WARNING")
    try:
        async with rigged(tmp_path, ('count_view = "latestTaskNum()"', 'count_view = "taskCount()"')) as rig:
            await rig.net.mine(3)
            await rig.polls(5)
    finally:
        logger.remove(sink)
    assert len([line for line in lines if "taskCount()" in line]) == 1
