"""What is only asked to word a log line may fail in any way: the endpoint serves, and its other methods are asked."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import web

from tests.integration.node_rig import Answers, Relay, relaying, running_chain
from tests.kit.clocks import HandClock
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.replies import Unread
from watcher.chain.rpc.side_questions import SideQuestions

TX, ADDRESS, SLOT = b"\x77" * 32, b"\x11" * 20, bytes(32)


@dataclass
class Rig:
    """One endpoint behind a relay."""

    relay: Relay
    nodes: NodePool
    clock: HandClock

    def asked(self, method: str) -> int:
        return sum(method in batch for batch in self.relay.asked)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    clock = HandClock()
    async with running_chain(tmp_path) as (chain, anvil), relaying(anvil.http_url) as relay:
        await chain.mine(3)
        nodes = NodePool([Node(relay.url, 31337, clock)], clock, Random(1))
        try:
            yield Rig(relay, nodes, clock)
        finally:
            await nodes.close()


def instead(method: str, refusal: Any) -> Callable[[Answers, Answers], Any]:
    """Requests with this method get `said`: members of the answer, or a response in place of all."""

    def twist(asked: Answers, answers: Answers) -> Any:
        if isinstance(refusal, int) and any(request["method"] == method for request in asked):
            return web.Response(status=refusal, text="no")
        if isinstance(refusal, bytes) and any(request["method"] == method for request in asked):
            return refusal
        return [
            {"jsonrpc": "2.0", "id": reply["id"]} | refusal
            if ask["method"] == method and isinstance(refusal, dict)
            else reply
            for ask, reply in zip(asked, answers, strict=True)
        ]

    return twist


REFUSED: list[Any] = [
    {"error": {"code": -32601, "message": "the method eth_getTransactionReceipt does not exist"}},
    {"error": {"code": -32000, "message": "transaction indexing is in progress"}},
    {"error": {"code": -32005, "message": "rate limit"}},
    {"result": {"status": "maybe", "blockHash": "0x1", "blockNumber": "0x1"}},
    {"result": [7]},
    403,
    429,
    503,
    b"<html>",
]


@pytest.mark.parametrize("refusal", REFUSED)
async def test_a_receipt_is_unread_and_its_endpoint_in_use_when_refused(rig: Rig, refusal: Any) -> None:
    rig.relay.twist = instead("eth_getTransactionReceipt", refusal)
    assert isinstance(await rig.nodes.side.transaction_receipt(TX), Unread)
    assert [node.reason for node in rig.nodes.seen] == [None]
    assert (await rig.nodes.head()).number == 3
    before = rig.asked("eth_getTransactionReceipt")
    assert isinstance(await rig.nodes.side.transaction_receipt(TX), Unread)
    assert rig.asked("eth_getTransactionReceipt") == before, "the method is not asked of it again"
    rig.relay.twist = lambda _, answers: answers
    rig.clock.now_s += 301
    assert await rig.nodes.side.transaction_receipt(TX) is None, "asked again after a while, and not known"


PENDING: dict[str, Any] = {"transactionHash": "0x" + "77" * 32, "blockHash": None, "blockNumber": None, "logs": []}


@pytest.mark.parametrize("refusal", [PENDING, {"blockHash": None, "status": "0x1", "blockNumber": "0x1"}, {}])
async def test_a_receipt_without_a_block_is_of_no_mined_transaction(rig: Rig, refusal: dict[str, Any]) -> None:
    rig.relay.twist = instead("eth_getTransactionReceipt", {"result": refusal})
    assert await rig.nodes.side.transaction_receipt(TX) is None
    assert await rig.nodes.side.transaction_receipt(TX) is None
    assert rig.asked("eth_getTransactionReceipt") == 2, "that is an answer, and no refusal"


@pytest.mark.parametrize("method", ["eth_getStorageAt", "eth_getCode"])
@pytest.mark.parametrize("refusal", [{"error": {"code": -32601, "message": "no such method"}}, {"result": 5}, 500, 402])
async def test_code_and_storage_are_unknown_and_nothing_more_when_refused(rig: Rig, method: str, refusal: Any) -> None:
    rig.relay.twist = instead(method, refusal)
    head = await rig.nodes.head()
    word, code = await rig.nodes.side.account(ADDRESS, SLOT, head)
    assert None in (word, code)
    assert [node.reason for node in rig.nodes.seen] == [None]
    assert await rig.nodes.side.transaction_receipt(TX) is None, "other methods are asked as before"


async def test_an_answer_of_another_endpoint_is_taken_when_one_refuses(rig: Rig, tmp_path: Path) -> None:
    async with relaying(rig.relay.target) as other:
        nodes = NodePool([Node(relay.url, 31337, rig.clock) for relay in (rig.relay, other)], rig.clock, Random(1))
        rig.relay.twist = instead("eth_getTransactionReceipt", 503)
        assert await nodes.side.transaction_receipt(TX) is None
        assert await nodes.side.transaction_receipt(TX) is None
        assert sum("eth_getTransactionReceipt" in batch for batch in other.asked) == 2
        assert [node.reason for node in nodes.seen] == [None, None]
        await nodes.close()


async def test_side_question_waits_for_a_silent_node_no_longer_than_its_limit(rig: Rig) -> None:
    side = SideQuestions(lambda: rig.nodes.nodes, rig.clock, limit_s=0.05)

    async def silent(_: Node) -> int:
        await asyncio.Event().wait()
        return 1

    async def quick(_: Node) -> int:  # at once: a reply over the network may take longer than the limit
        return 2

    assert await side.ask("eth_slow", silent) == []
    assert await side.ask("eth_slow", quick) == [], "it rests"
    assert await side.ask("eth_other", quick) == [2]
