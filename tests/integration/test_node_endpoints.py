"""Several endpoints answer as one: failover both ways, pauses, wrong chains, and a log line per change only."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from aiohttp import web
from loguru import logger

from tests.integration.node_rig import CHAIN_ID, SECRET, Answers, Relay, relaying, running_chain, speaking
from tests.kit.clocks import HandClock
from tests.wizard import TOPICS0
from watcher.chain.rpc.calls import LogQuery
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.clock import SystemClock
from watcher.errors import FixConfiguration, NarrowRange, RetryElsewhere, StaleNode

ADDRESS = b"\x11" * 20


@pytest.fixture
def lines() -> Iterator[list[str]]:
    records: list[str] = []
    sink = logger.add(lambda message: records.append(str(message)), format="{level} {message} {extra}", level="DEBUG")
    yield records
    logger.remove(sink)


class Pair:
    """Two relays before one chain, and the endpoints made of them."""

    def __init__(self, first: Relay, second: Relay, pool: NodePool, clock: HandClock) -> None:
        self.first, self.second, self.pool, self.clock = first, second, pool, clock

    def asked(self) -> tuple[int, int]:
        """How many requests each got since the last look."""
        counts = len(self.first.asked), len(self.second.asked)
        self.first.asked.clear()
        self.second.asked.clear()
        return counts


@asynccontextmanager
async def endpoints_of(
    *urls: str, clock: HandClock | None = None, left_s: float | None = None
) -> AsyncIterator[NodePool]:
    clock = clock or HandClock()
    nodes = [Node(url, CHAIN_ID, clock, timeout_s=0.5) for url in urls]
    made = NodePool(nodes, clock, Random(1), left_s=lambda: left_s)
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    clock = HandClock()
    async with (
        running_chain(tmp_path) as (chain, anvil),
        relaying(anvil.http_url) as first,
        relaying(anvil.http_url) as second,
        endpoints_of(first.url, second.url, clock=clock) as pool,
    ):
        await chain.mine(10)
        yield Pair(first, second, pool, clock)


def broken(_: Answers, __: Answers) -> web.Response:
    return web.Response(status=502, text=f"<html>{SECRET}</html>")


def other_chain(asked: Answers, answers: Answers) -> Answers:
    return [
        reply | {"result": "0x1"} if ask["method"] == "eth_chainId" else reply
        for ask, reply in zip(asked, answers, strict=True)
    ]


async def block_ten(pair: Pair) -> bool:
    header = await pair.pool.header(10)
    return header is not None and header.number == 10


def stuck_at(height: int) -> Callable[[Answers, Answers], Answers]:
    def twist(asked: Answers, answers: Answers) -> Answers:
        return [
            reply | {"result": reply["result"] | {"number": hex(height)}} if ask["params"][:1] == ["latest"] else reply
            for ask, reply in zip(asked, answers, strict=True)
        ]

    return twist


async def test_the_head_is_the_highest_any_endpoint_shows(pair: Pair) -> None:
    pair.first.twist = stuck_at(3)
    assert (await pair.pool.head()).number == 10
    pair.second.twist = broken
    assert (await pair.pool.head()).number == 3
    pair.first.twist = broken
    with pytest.raises(RetryElsewhere):
        await pair.pool.head()


async def test_the_first_endpoint_serves_while_it_can_and_again_after_it_failed(pair: Pair, lines: list[str]) -> None:
    assert await block_ten(pair)
    assert pair.asked() == (1, 0)
    pair.first.twist = broken
    for expected in ((2, 1), (0, 1), (0, 1)):
        assert await block_ten(pair)
        assert pair.asked() == expected, "the question, and a single call that tells whether the batch was the trouble"
    pair.first.twist = lambda _, answers: answers
    pair.clock.now_s += 1
    assert await block_ten(pair)
    assert pair.asked() == (2, 0), "a sign of life, then the question"
    assert await pair.pool.chain_id() == CHAIN_ID
    assert [line.split()[0] for line in lines] == ["WARNING", "INFO"]
    assert SECRET not in "".join(lines)


async def test_it_fails_over_in_the_other_direction_too(pair: Pair) -> None:
    pair.first.twist = broken
    assert await block_ten(pair)
    pair.asked()
    pair.second.twist = broken
    pair.first.twist = lambda _, answers: answers
    pair.clock.now_s += 1
    assert await block_ten(pair)
    assert pair.asked() == (2, 0)


async def test_pauses_grow_with_each_failure_while_another_endpoint_serves(pair: Pair, lines: list[str]) -> None:
    pair.first.twist = broken
    pauses = []
    for _ in range(10):
        assert await block_ten(pair)
        before = pair.clock.now_s
        pair.asked()
        while not pair.first.asked:
            pair.clock.now_s += 0.25
            assert await block_ten(pair)
        pauses.append(pair.clock.now_s - before)
        pair.clock.now_s += 60
    assert pauses[0] <= 0.75
    assert 30 <= pauses[-1] <= 60.25
    assert len(lines) == 1, "one line per change, not per failure"


async def test_first_node_to_return_is_found_soon_after_any_outage(pair: Pair) -> None:
    """Leaving an endpoint alone spares the others a delay; where there is none, it only makes the outage longer."""
    pair.first.twist = broken
    for _ in range(10):
        assert await block_ten(pair)
        pair.clock.now_s += 60
    assert await block_ten(pair)  # the first rests for the longest now
    pair.second.twist = broken
    for _ in range(100):
        with pytest.raises(RetryElsewhere):
            await pair.pool.head()
        pair.clock.now_s += 5
    for relay, other in ((pair.first, pair.second), (pair.second, pair.first)):
        relay.twist = lambda _, answers: answers
        pair.clock.now_s += 10
        assert await block_ten(pair)
        relay.twist = other.twist = broken
        with pytest.raises(RetryElsewhere):
            await pair.pool.head()


async def test_node_gets_the_pause_it_asks_for_when_no_other_serves(pair: Pair) -> None:
    pair.first.twist = lambda _, __: web.Response(status=429, headers={"Retry-After": "40"})
    pair.second.twist = broken
    with pytest.raises(RetryElsewhere):
        await pair.pool.head()
    for _ in range(3):
        pair.asked()
        pair.clock.now_s += 13
        with pytest.raises(RetryElsewhere):
            await pair.pool.head()
        assert pair.asked() == (0, 1)
    pair.clock.now_s += 2
    with pytest.raises(RetryElsewhere):
        await pair.pool.head()
    assert pair.asked()[0] == 1


@pytest.mark.parametrize(("left_s", "most_s"), [(40.0, 10.0), (1e9, 60.0), (None, 60.0), (0.5, 2.0)])
async def test_pause_of_all_endpoints_is_bounded_by_the_deadlines(
    pair: Pair, left_s: float | None, most_s: float
) -> None:
    pair.first.twist = lambda _, __: web.Response(status=429, headers={"Retry-After": "999999999"})
    pair.second.twist = lambda _, __: web.Response(status=429, headers={"Retry-After": "3600"})
    async with endpoints_of(pair.first.url, pair.second.url, clock=pair.clock, left_s=left_s) as both:
        with pytest.raises(RetryElsewhere):
            await both.head()
        pair.first.twist = pair.second.twist = lambda _, answers: answers
        pair.clock.now_s += most_s - 0.1
        if most_s > 2:
            with pytest.raises(RetryElsewhere):
                await both.head()
        pair.clock.now_s += 0.2
        assert await both.header(10)


async def test_only_endpoint_is_asked_again_before_the_deadline(pair: Pair) -> None:
    pair.first.twist = lambda _, __: web.Response(status=429, headers={"Retry-After": "86400"})
    async with endpoints_of(pair.first.url, clock=pair.clock, left_s=100.0) as alone:
        with pytest.raises(RetryElsewhere):
            await alone.head()
        pair.first.twist = lambda _, answers: answers
        pair.clock.now_s += 25.1
        assert (await alone.head()).number > 0


async def test_when_all_are_down_the_error_names_each_and_its_reason(pair: Pair) -> None:
    pair.first.twist = broken
    pair.second.twist = lambda _, __: web.Response(status=401)
    for _ in range(2):
        with pytest.raises(RetryElsewhere) as caught:
            await pair.pool.head()
        message = str(caught.value)
        assert message.count("http://127.0.0.1:") == 2 and "HTTP 502" in message and "HTTP 401" in message
        assert SECRET not in message
    assert pair.asked() == (2, 1), "the question and a sign of life; nobody is asked while it rests"


async def test_a_rate_limited_endpoint_rests_as_long_as_it_asked(pair: Pair) -> None:
    pair.first.twist = lambda _, __: web.Response(status=429, headers={"Retry-After": "40"})
    assert await block_ten(pair)
    pair.first.twist = lambda _, answers: answers
    pair.asked()
    pair.clock.now_s += 39
    assert await block_ten(pair)
    assert pair.asked() == (0, 1)
    pair.clock.now_s += 2
    assert await block_ten(pair)
    assert pair.asked() == (2, 0)


async def test_a_lagging_endpoint_is_passed_over_and_not_out_of_use(pair: Pair, lines: list[str]) -> None:
    def lagging(asked: Answers, answers: Answers) -> Answers:
        return [
            reply | {"result": None} if ask["method"] == "eth_getBlockByNumber" else reply
            for ask, reply in zip(asked, answers, strict=True)
        ]

    pair.first.twist = lagging
    for _ in range(2):
        assert (await pair.pool.page(LogQuery(ADDRESS, TOPICS0, 1, 9))).last.number == 9
        assert pair.asked() == (1, 1)
    pair.second.twist = lagging
    with pytest.raises(StaleNode):
        await pair.pool.page(LogQuery(ADDRESS, TOPICS0, 1, 9))
    assert lines == []


async def test_a_refused_span_goes_to_the_caller_and_not_to_the_next_endpoint(pair: Pair, lines: list[str]) -> None:
    def too_wide(asked: Answers, answers: Answers) -> Answers:
        error = {"code": -32005, "message": "query returned more than 10000 results"}
        return [
            {"jsonrpc": "2.0", "id": reply["id"], "error": error} if ask["method"] == "eth_getLogs" else reply
            for ask, reply in zip(asked, answers, strict=True)
        ]

    pair.first.twist = too_wide
    with pytest.raises(NarrowRange):
        await pair.pool.page(LogQuery(ADDRESS, TOPICS0, 1, 9))
    assert pair.asked() == (1, 0)
    assert lines == []


async def test_an_endpoint_of_another_chain_is_refused_and_the_other_one_used(pair: Pair, lines: list[str]) -> None:
    pair.first.twist = other_chain
    assert await block_ten(pair)
    assert "serves chain 1, chain.chain_id is 31337" in lines[0]
    pair.first.twist = lambda _, answers: answers
    pair.clock.now_s += 120
    assert await block_ten(pair)
    assert pair.asked() == (3, 1)


async def test_if_every_endpoint_serves_another_chain_the_configuration_is_wrong(pair: Pair) -> None:
    pair.first.twist = pair.second.twist = other_chain
    for _ in range(4):
        with pytest.raises(RetryElsewhere, match="serves chain 1"):
            await pair.pool.head()
        pair.clock.now_s += 120
    for _ in range(2):
        with pytest.raises(FixConfiguration) as caught:
            await pair.pool.head()
        assert len(caught.value.problems) == 2
    pair.clock.now_s += 120
    pair.second.twist = broken
    with pytest.raises(RetryElsewhere):
        await pair.pool.head()


async def test_occasional_replies_of_another_chain_are_no_configuration_error(pair: Pair) -> None:
    """A daemon with a single node ended for good because of one of them."""
    for _ in range(8):
        pair.first.twist = pair.second.twist = other_chain
        for _ in range(4):
            with pytest.raises(RetryElsewhere, match="serves chain 1"):
                await pair.pool.head()
            pair.clock.now_s += 120
        pair.first.twist = lambda _, answers: answers
        assert await block_ten(pair)


async def test_a_chain_that_changes_under_a_running_endpoint_is_noticed_at_once(pair: Pair) -> None:
    assert await block_ten(pair)
    pair.first.twist = other_chain
    pair.asked()
    assert await block_ten(pair)
    assert pair.asked() == (1, 1)


async def test_failures_at_the_same_time_count_as_one(pair: Pair) -> None:
    pair.first.twist = broken
    await asyncio.gather(*(block_ten(pair) for _ in range(8)))
    pair.first.twist = lambda _, answers: answers
    pair.asked()
    pair.clock.now_s += 0.6
    assert await block_ten(pair)
    assert pair.asked() == (2, 0)


async def test_a_hung_endpoint_does_not_hold_up_the_other(tmp_path: Path) -> None:
    async with (
        running_chain(tmp_path) as (_, anvil),
        speaking(b"", hold=True) as hung,
        endpoints_of(hung, anvil.http_url) as pool,
        asyncio.timeout(3),
    ):
        assert (await pool.head()).number == 0


def test_no_endpoint_at_all_is_a_configuration_problem() -> None:
    with pytest.raises(FixConfiguration, match=r"chain\.rpc_urls"):
        NodePool([], SystemClock(), Random(1))
