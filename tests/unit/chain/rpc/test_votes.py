"""Views read at several nodes: each item counts alone, and one that differs or cannot be read holds up no other."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, cast

import pytest

from tests.conformance.rig import header as block
from tests.kit.clocks import SetClock
from watcher.chain.rpc.calls import Caller
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.replies import Reverted, Unread
from watcher.chain.rpc.votes import Votes
from watcher.errors import RetryElsewhere, StaleNode
from watcher.task import Header

MANAGER = b"\x11" * 20
CALLS = [b"zero", b"one", b"two"]
ZERO = bytes(32)

Answer = bytes | Reverted | Unread


class Fake:
    """A node that gives each call back as its answer, `odd` ones for some; `error` is raised when it stands alone."""

    def __init__(
        self, name: str, odd: Mapping[bytes, Answer] | None = None, error: RetryElsewhere | None = None
    ) -> None:
        self.name = name
        self.odd = odd or {}
        self.error = error
        self.asked: list[list[bytes]] = []

    async def chain_id(self) -> int:
        return 1

    async def views(self, calls: Sequence[bytes], to: bytes, at: Header, caller: Caller | None = None) -> list[Answer]:
        self.asked.append(list(calls))
        if self.error is not None:
            raise self.error
        return [self.odd.get(call, call) for call in calls]


def node_pool(quorum: int, *nodes: Fake) -> NodePool:
    return NodePool(cast("Any", nodes), SetClock(1_700_000_000_000), Random(1), quorum)


async def read(quorum: int, *nodes: Fake) -> list[Answer]:
    return await node_pool(quorum, *nodes).views(CALLS, MANAGER, block(7))


async def test_one_differing_item_leaves_the_others_read() -> None:
    first, second, third = await read(2, Fake("a"), Fake("b", {b"one": ZERO}))
    assert (first, third) == (b"zero", b"two")
    assert isinstance(second, Unread) and not second.reverted
    assert second.reason == "endpoints of chain.rpc_urls disagree about the contract at block 7"


@pytest.mark.parametrize("odd", [Unread("state is pruned"), Reverted("no such task", None), b""])
@pytest.mark.parametrize("place", [0, 1])
async def test_an_item_is_unread_when_two_must_agree_and_one_does_not(place: int, odd: Answer) -> None:
    nodes = [Fake("a"), Fake("b")]
    nodes[place].odd = {b"two": odd}
    values = await read(2, *nodes)
    assert values[:2] == [b"zero", b"one"]
    assert isinstance(values[2], Unread)
    assert ("pruned" if isinstance(odd, Unread) else "disagree") in values[2].reason


@pytest.mark.parametrize("odd", [Unread("state is pruned"), Reverted("no such task", None), ZERO])
async def test_a_third_node_is_asked_for_the_item_two_disagree_on(odd: Answer) -> None:
    nodes = [Fake("a", {b"one": odd}), Fake("b"), Fake("c")]
    assert await read(2, *nodes) == CALLS
    assert [node.asked for node in nodes] == [[CALLS], [CALLS], [[b"one"]]]


async def test_another_node_reads_the_item_that_one_cannot() -> None:
    nodes = [Fake("a", {b"two": Unread("state is pruned")}), Fake("b"), Fake("c")]
    assert await read(1, *nodes) == CALLS
    assert [node.asked for node in nodes] == [[CALLS], [[b"two"]], []]


async def test_one_node_is_asked_once_when_it_reads_all() -> None:
    nodes = [Fake("a"), Fake("b")]
    assert await read(1, *nodes) == CALLS
    assert nodes[1].asked == []


@pytest.mark.parametrize("error", [RetryElsewhere("b: internal error"), StaleNode("b: does not have block 7")])
async def test_a_node_stays_in_use_when_it_cannot_read_one_item(error: RetryElsewhere) -> None:
    net = node_pool(1, Fake("a", {b"two": Unread("state is pruned")}), Fake("b", error=error))
    values = await net.views(CALLS, MANAGER, block(7))
    assert values[:2] == [b"zero", b"one"] and isinstance(values[2], Unread)
    assert [node.reason for node in net.seen] == [None, None]


async def test_a_node_that_reads_nothing_is_out_of_use() -> None:
    net = node_pool(2, Fake("a"), Fake("b", error=RetryElsewhere("b: no connection")), Fake("c"))
    assert await net.views(CALLS, MANAGER, block(7)) == CALLS
    assert [node.reason for node in net.seen] == [None, "b: no connection", None]


async def test_every_item_is_unread_when_none_is_agreed_on() -> None:
    values = await read(2, Fake("a"), Fake("b", dict.fromkeys(CALLS, ZERO)))
    expected = "endpoints of chain.rpc_urls disagree about the contract at block 7"
    assert [value.reason for value in values if isinstance(value, Unread)] == [expected] * 3


async def test_a_batch_is_an_error_when_too_few_nodes_answer() -> None:
    with pytest.raises(RetryElsewhere, match="only 1 of the 2 endpoints"):
        await read(2, Fake("a"), Fake("b", error=RetryElsewhere("b: no connection")))


async def test_a_dry_run_is_compared_item_by_item() -> None:
    net = node_pool(2, Fake("a"), Fake("b", {b"zero": Reverted("paused", b"\x01")}))
    first, *others = await net.views(CALLS, MANAGER, block(7), Caller(b"\x22" * 20))
    assert isinstance(first, Unread) and others == CALLS[1:]


def test_votes_count_reverts_alike_whatever_their_words() -> None:
    votes = Votes(1, 2)
    votes.add([0], [Reverted("execution reverted", b"\x01")])
    assert votes.open == [0]
    votes.add([0], [Reverted("VM Exception", b"\x01")])
    assert votes.open == [] and votes.result(7) == [Reverted("", b"\x01")]


def test_votes_of_no_calls_are_no_answers() -> None:
    assert Votes(0, 2).result(7) == []
