"""Which chain the nodes are on: one answer out of line decides nothing."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import web

from tests.integration.node_rig import Answers, Relay, relaying, running_chain
from tests.system.daemon_rig import running_rig
from watcher.chain.genesis import genesis_hash
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.clock import SystemClock
from watcher.errors import FixConfiguration, RetryElsewhere
from watcher.ledger.known_sources import Beginning

OURS, OTHERS = b"\x11" * 32, b"\x22" * 32


def begun(genesis: bytes | None, *finals: tuple[int, bytes]) -> Beginning:
    return Beginning(0, genesis, finals)


def refusing(*heights: int, refusal: dict[str, Any]) -> Callable[[Answers, Answers], Answers]:
    """Blocks that the node does not keep, and says so in its own way."""
    refused = [hex(height) for height in heights]

    def twist(asked: Answers, answers: Answers) -> Answers:
        return [
            {"jsonrpc": "2.0", "id": reply["id"]} | refusal
            if ask["method"] == "eth_getBlockByNumber" and ask["params"][0] in refused
            else reply
            for ask, reply in zip(asked, answers, strict=True)
        ]

    return twist


def showing(hash_: Callable[[], bytes]) -> Callable[[Answers, Answers], Answers]:
    """Block 0 has a hash of our choice."""

    def twist(asked: Answers, answers: Answers) -> Answers:
        return [
            reply | {"result": reply["result"] | {"hash": "0x" + hash_().hex()}}
            if ask["params"][:1] == ["0x0"]
            else reply
            for ask, reply in zip(asked, answers, strict=True)
        ]

    return twist


def broken(_: Answers, __: Answers) -> web.Response:
    return web.Response(status=502)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Relay, Relay, NodePool]]:
    clock = SystemClock()
    async with (
        running_chain(tmp_path) as (chain, anvil),
        relaying(anvil.http_url) as first,
        relaying(anvil.http_url) as second,
    ):
        await chain.mine(2)
        nodes = NodePool([Node(relay.url, 31337, clock) for relay in (first, second)], clock, Random(1))
        try:
            yield first, second, nodes
        finally:
            await nodes.close()


async def test_chain_is_the_block_that_all_endpoints_show(pair: tuple[Relay, Relay, NodePool]) -> None:
    first, second, nodes = pair
    first.twist = second.twist = showing(lambda: OTHERS)
    assert await genesis_hash(nodes, None) == OTHERS
    assert await genesis_hash(nodes, begun(OURS)) == OTHERS, "it is another chain, and the ledger will say so"


async def test_one_endpoint_confirms_the_ledgers_chain(pair: tuple[Relay, Relay, NodePool]) -> None:
    first, second, nodes = pair
    first.twist, second.twist = showing(lambda: OTHERS), showing(lambda: OURS)
    assert await genesis_hash(nodes, begun(OURS)) == OURS


async def test_start_waits_when_endpoints_disagree_on_block_0(pair: tuple[Relay, Relay, NodePool]) -> None:
    first, second, nodes = pair
    first.twist, second.twist = showing(lambda: OTHERS), showing(lambda: OURS)
    with pytest.raises(RetryElsewhere, match="do not agree"):
        await genesis_hash(nodes, None)


async def test_invented_block_0_is_not_the_chain(pair: tuple[Relay, Relay, NodePool]) -> None:
    first, second, nodes = pair
    first.twist = showing(lambda: os.urandom(32))
    second.twist = broken
    for begun_on in (None, OURS):
        with pytest.raises(RetryElsewhere):
            await genesis_hash(nodes, begun(begun_on))


async def test_silent_endpoints_delay_the_refusal(pair: tuple[Relay, Relay, NodePool]) -> None:
    first, second, nodes = pair
    first.twist, second.twist = showing(lambda: OTHERS), broken
    with pytest.raises(RetryElsewhere, match="another block 0 than the ledger's chain has"):
        await genesis_hash(nodes, begun(OURS))
    second.twist = broken
    first.twist = broken
    with pytest.raises(RetryElsewhere):
        await genesis_hash(nodes, begun(OURS))


NOT_KEPT: list[dict[str, Any]] = [
    {"error": {"code": 4444, "message": "pruned history unavailable"}},
    {"error": {"code": -32603, "message": "height 0 is not available, lowest height is 14542294"}},
    {"error": "no such height"},
    {"result": None},
    {"result": {"number": "0x0"}},
    {"result": "genesis"},
]


@pytest.mark.parametrize("refusal", NOT_KEPT)
async def test_block_0_is_optional_when_no_node_keeps_it(
    pair: tuple[Relay, Relay, NodePool], refusal: dict[str, Any]
) -> None:
    first, second, nodes = pair
    first.twist = second.twist = refusing(0, refusal=refusal)
    assert await genesis_hash(nodes, None) is None
    assert await genesis_hash(nodes, begun(OURS)) is None
    assert [node.reason for node in nodes.seen] == [None, None]


async def test_block_0_is_optional_when_its_request_fails(pair: tuple[Relay, Relay, NodePool]) -> None:
    first, second, nodes = pair

    def fails(asked: Answers, answers: Answers) -> Any:
        return (
            answers
            if all(request["method"] == "eth_chainId" for request in asked)
            else web.Response(status=500, text="x")
        )

    first.twist = second.twist = fails
    assert await genesis_hash(nodes, None) is None
    assert [node.reason for node in nodes.seen] == [None, None]


async def test_any_final_block_of_the_ledger_tells_the_chain(pair: tuple[Relay, Relay, NodePool]) -> None:
    first, second, nodes = pair
    header = await nodes.header(2)
    assert header is not None
    first.twist = second.twist = refusing(0, refusal=NOT_KEPT[0])
    assert await genesis_hash(nodes, begun(None, (2, header.hash))) is None
    first.twist = second.twist = showing(lambda: OTHERS)
    assert await genesis_hash(nodes, begun(OURS, (1, OTHERS), (2, header.hash))) == OURS
    assert await genesis_hash(nodes, begun(None, (2, header.hash))) == OTHERS, "learnt, where the ledger had none"


async def test_another_old_final_block_at_every_node_is_another_chain(pair: tuple[Relay, Relay, NodePool]) -> None:
    first, second, nodes = pair
    first.twist = second.twist = refusing(0, refusal=NOT_KEPT[0])
    with pytest.raises(FixConfiguration, match="block 1 of the ledger's chain is 0x1111"):
        await genesis_hash(nodes, begun(OURS, (1, OURS), (2, OURS)))
    assert await genesis_hash(nodes, begun(OURS, (2, OURS))) is None, "the watch decides on the newest final block"
    second.twist = broken
    assert await genesis_hash(nodes, begun(OURS, (1, OURS), (2, OURS))) is None, "the silent one may know it"


async def test_node_that_lies_about_block_0_delays_the_start(tmp_path: Path) -> None:
    """The torture found it: the daemon ended for good, as on another chain, and no service starts that again."""
    async with running_rig(tmp_path) as rig, relaying(rig.net.rpc_url) as relay:
        rig.write_config(changes={f'"{rig.net.rpc_url}", "{rig.net.ws_url}"': f'"{relay.url}"'}, target="rig_hook:dice")
        daemon = await rig.start()
        assert await daemon.stop() == 0
        lies = 0

        def lie() -> bytes:
            nonlocal lies
            lies += 1
            return os.urandom(32)

        relay.twist = showing(lie)
        daemon = await rig.start()
        assert lies >= 2  # looked at, and outweighed by the final block that the ledger remembers
        assert await daemon.stop() == 0
