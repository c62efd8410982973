"""One item of a batch that cannot be read is that item's affair: the others of the same batch are."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from aiohttp import web

from tests.integration.node_rig import Answers, Relay, asking
from watcher.chain.contract import TaskManager
from watcher.chain.convention.convention import convention
from watcher.chain.convention.view import NoSuchView
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.replies import Reverted, Unread
from watcher.clock import SystemClock
from watcher.errors import RetryElsewhere, StaleNode

ADDRESS = b"\x11" * 20
CALLS = [b"\x01\x02\x03\x04" + index.to_bytes(32) for index in range(5)]
WORD = "0x" + "ab" * 32
PRUNED = {"code": -32000, "message": "missing trie node 1234 (path ) state is not available"}
REVERTED = {"code": 3, "message": "execution reverted: no such task", "data": "0x"}
LIMITED = {"code": -32005, "message": "rate limit"}

Item = dict[str, Any]


def words_but(poison: Callable[[int], Item]) -> Callable[[Answers, Answers], Answers]:
    """Each call is answered with a word; `poison(index)` may say otherwise."""

    def twist(asked: Answers, answers: Answers) -> Answers:
        return [
            {"jsonrpc": "2.0", "id": reply["id"]}
            | (
                {"result": WORD} | poison(int(ask["params"][0]["data"][-64:], 16))
                if ask["method"] == "eth_call"
                else reply
            )
            for ask, reply in zip(asked, answers, strict=True)
        ]

    return twist


def only(index: int, refusal: Item) -> Callable[[int], Item]:
    failed = {"result": None} | refusal
    return lambda asked: failed if asked == index else {}


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        ({"error": REVERTED}, Reverted),
        ({"error": PRUNED}, Unread),
        ({"error": {"code": -32000, "message": "header not found"}}, Unread),
        ({"error": {"code": -32603, "message": "internal error"}}, Unread),
        ({"error": "no"}, Unread),
        ({"result": None}, Unread),
        ({"result": {"value": WORD}}, Unread),
        ({"result": 7}, Unread),
    ],
)
async def test_an_item_that_fails_leaves_the_others_readable(relay: Relay, refusal: Item, kind: type) -> None:
    relay.twist = words_but(only(2, refusal))
    async with asking(relay.url) as node:
        values = await node.views(CALLS, ADDRESS, await node.head())
    assert [type(value) for value in values] == [bytes, bytes, kind, bytes, bytes]
    assert values[0] == b"\xab" * 32


async def test_a_batch_of_which_no_state_is_kept_is_stale(relay: Relay) -> None:
    relay.twist = words_but(lambda _: {"result": None, "error": PRUNED})
    async with asking(relay.url) as node:
        with pytest.raises(StaleNode):
            await node.views(CALLS, ADDRESS, await node.head())


REFUSED: list[Item] = [{"error": "no"}, {"error": {"code": -32603, "message": "internal error"}}, {"result": 7}]


@pytest.mark.parametrize("refusal", REFUSED)
@pytest.mark.parametrize("count", [1, 2])
async def test_a_lone_node_stays_in_use_when_it_refuses_all_that_is_asked(
    relay: Relay, refusal: Item, count: int
) -> None:
    """One task is one call or two: there is no other item that could show that the node is well."""
    relay.twist = words_but(only(2, refusal))
    async with asking(relay.url) as node:
        nodes = NodePool([node], SystemClock(), Random(1))
        head = await nodes.head()
        for _ in range(3):
            values = await nodes.views([CALLS[2]] * count, ADDRESS, head)
            assert [type(value) for value in values] == [Unread] * count
            assert await nodes.views(CALLS[:1], ADDRESS, head) == [b"\xab" * 32]
        assert [node.reason for node in nodes.seen] == [None]


@pytest.mark.parametrize("status", [400, 403, 413, 500])
async def test_a_lone_call_that_takes_its_request_down_leaves_the_node_in_use(relay: Relay, status: int) -> None:
    async with asking(relay.url) as node:
        nodes = NodePool([node], SystemClock(), Random(1))
        head = await nodes.head()
        relay.twist = lambda asked, answers: (
            web.Response(status=status) if any(request["method"] == "eth_call" for request in asked) else answers
        )
        (value,) = await nodes.views(CALLS[:1], ADDRESS, head)
        assert isinstance(value, Unread) and str(status) in value.reason
        assert (await nodes.head()).hash == head.hash
        assert [node.reason for node in nodes.seen] == [None]


async def test_a_rate_limit_within_a_batch_is_still_a_pause(relay: Relay) -> None:
    relay.twist = words_but(only(4, {"error": LIMITED}))
    async with asking(relay.url) as node:
        with pytest.raises(RetryElsewhere, match="rate limit"):
            await node.views(CALLS, ADDRESS, await node.head())


async def test_a_task_that_alone_is_refused_is_unread_and_several_are_an_error(relay: Relay) -> None:
    relay.twist = words_but(lambda _: {"result": None, "error": "no"})
    async with asking(relay.url) as node:
        contract = TaskManager(NodePool([node], SystemClock(), Random(1)), ADDRESS, convention("wizard"), 100)
        at = await node.head()
        (alone,) = await contract.hashes_and_responses([1], at)
        assert isinstance(alone, Unread) and alone.reason.endswith("no")
        with pytest.raises(RetryElsewhere, match="no"):
            await contract.hashes_and_responses([1, 2], at)


async def test_an_aggregator_that_is_refused_is_not_taken_for_none(relay: Relay) -> None:
    relay.twist = lambda asked, answers: [
        {"jsonrpc": "2.0", "id": reply["id"], "error": "no"} if ask["method"] == "eth_call" else reply
        for ask, reply in zip(asked, answers, strict=True)
    ]
    async with asking(relay.url) as node:
        contract = TaskManager(NodePool([node], SystemClock(), Random(1)), ADDRESS, convention("wizard"), 100)
        with pytest.raises(RetryElsewhere, match="aggregator"):
            await contract.aggregator(await node.head())


class OneNode:
    """The endpoints as the contract asks them, of one node."""

    def __init__(self, node: Node) -> None:
        self.views, self.clock = node.views, SystemClock()


async def test_an_index_that_reverts_is_unread_and_its_neighbours_are_not(relay: Relay) -> None:
    relay.twist = words_but(only(77, {"error": REVERTED}))
    async with asking(relay.url) as node:
        contract = TaskManager(OneNode(node), ADDRESS, convention("wizard"), 100)  # type: ignore[arg-type]
        first, poison, last = await contract.hashes_and_responses([1, 77, 2], await node.head())
    assert first == last == (b"\xab" * 32, b"\xab" * 32)
    assert isinstance(poison, Unread) and poison.reverted
    assert "allTaskHashes(uint32) reverts for it" in poison.reason


async def test_a_contract_that_answers_nothing_at_all_is_no_contract(relay: Relay) -> None:
    relay.twist = words_but(lambda _: {"result": "0x"})
    async with asking(relay.url) as node:
        contract = TaskManager(OneNode(node), ADDRESS, convention("wizard"), 100)  # type: ignore[arg-type]
        with pytest.raises(NoSuchView):
            await contract.hashes_and_responses([1, 2], await node.head())


async def test_an_index_with_an_empty_answer_is_unread_alone(relay: Relay) -> None:
    relay.twist = words_but(only(1, {"result": "0x"}))
    async with asking(relay.url) as node:
        contract = TaskManager(OneNode(node), ADDRESS, convention("wizard"), 100)  # type: ignore[arg-type]
        empty, full = await contract.hashes_and_responses([1, 2], await node.head())
    assert isinstance(empty, Unread) and not empty.reverted
    assert full == (b"\xab" * 32, b"\xab" * 32)
