"""Providers limit batches, each in its own way: what is asked is the same, in as many requests as it takes."""

from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from tests.integration.node_rig import CHAIN_ID, Answers, Relay, asking
from tests.wizard import LATEST_TASK_NUM, TOPICS0
from watcher.chain.rpc.calls import LogQuery
from watcher.chain.rpc.errors import Paused
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.replies import Reverted
from watcher.clock import SystemClock
from watcher.errors import RetryElsewhere

ADDRESS = b"\x11" * 20
TOO_MANY = {"code": -32600, "message": "too many calls"}

Refusal = Callable[[Answers, Answers], Any]


class Later(SystemClock):
    """A clock that can be put forward."""

    ahead_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s


def _error_for_all(*_: Answers) -> Any:
    return web.json_response({"jsonrpc": "2.0", "id": None, "error": TOO_MANY})


def _status_413(*_: Answers) -> Any:
    return web.Response(status=413, text="Payload Too Large")


def _status_400(*_: Answers) -> Any:
    return web.json_response({"jsonrpc": "2.0", "id": None, "error": TOO_MANY}, status=400)


def _error_for_each(asked: Answers, _: Answers) -> Any:
    return [{"jsonrpc": "2.0", "id": request["id"], "error": TOO_MANY} for request in asked]


def _only_the_first(_: Answers, answers: Answers) -> Any:
    return answers[:1]


def _the_rest_refused_at_once(_: Answers, answers: Answers) -> Any:
    return [*answers[:1], {"jsonrpc": "2.0", "id": None, "error": TOO_MANY}]


def _the_rest_refused_one_by_one(_: Answers, answers: Answers) -> Any:
    refused = [
        {"jsonrpc": "2.0", "id": reply["id"], "error": TOO_MANY | {"message": "batch limit"}} for reply in answers
    ]
    return [answers[0], *refused[1:]]


def _rate_limit_that_speaks_of_batches(*_: Answers) -> Any:
    error = {"code": -32005, "message": "too many requests in batch"}
    return web.json_response({"jsonrpc": "2.0", "id": None, "error": error}, status=429)


REFUSED = [
    _error_for_all,
    _status_413,
    _status_400,
    _error_for_each,
    _only_the_first,
    _the_rest_refused_at_once,
    _the_rest_refused_one_by_one,
    _rate_limit_that_speaks_of_batches,
]


def limiting(most: int, refusal: Refusal) -> Refusal:
    return lambda asked, answers: refusal(asked, answers) if len(asked) > most else answers


async def read_all(node: Node) -> None:
    """Every kind of question, the big ones too, each with the answer it has on this chain."""
    head = await node.head()
    assert head.number == 10
    assert await node.views([LATEST_TASK_NUM.call()] * 40, ADDRESS, head) == [b""] * 40
    page = await node.page(LogQuery(ADDRESS, TOPICS0, 1, 8, await node.header(0)))
    assert (page.last.number, page.continuous) == (8, True)
    assert await node.find(ADDRESS, TOPICS0[0], None, 1, 8) == ()


@pytest.mark.parametrize("refusal", REFUSED)
@pytest.mark.parametrize("most", [10, 3])
async def test_a_limit_is_kept_however_it_is_said(relay: Relay, most: int, refusal: Refusal) -> None:
    relay.twist = limiting(most, refusal)
    async with asking(relay.url) as node:
        await read_all(node)
        relay.asked.clear()
        await read_all(node)
    assert max(len(asked) for asked in relay.asked) <= most
    assert all(asked[0] == "eth_chainId" for asked in relay.asked)


@pytest.mark.parametrize("refusal", REFUSED)
async def test_a_node_without_batches_is_asked_one_call_after_the_other(relay: Relay, refusal: Refusal) -> None:
    def alone_only(asked: Answers, answers: Answers) -> Any:
        return answers if relay.alone[-1:] == [len(relay.asked) - 1] else refusal(asked, answers)

    relay.twist = alone_only
    async with asking(relay.url) as node:
        if refusal is _only_the_first or refusal is _the_rest_refused_one_by_one:
            await node.head()  # a batch of one goes through, so that it is the second question that is too much
        await read_all(node)
        relay.asked.clear()
        relay.alone.clear()
        await node.page(LogQuery(ADDRESS, TOPICS0, 1, 8))
    assert relay.asked == [
        ["eth_chainId"],
        ["eth_getBlockByNumber"],
        ["eth_getLogs"],
        ["eth_getBlockByNumber"],
    ]
    assert relay.alone == [0, 1, 2, 3]


async def test_an_answer_of_another_chain_is_of_no_use_without_batches_either(relay: Relay) -> None:
    relay.twist = limiting(1, _error_for_all)
    async with asking(relay.url, chain_id=CHAIN_ID + 1) as node:
        with pytest.raises(RetryElsewhere, match=f"serves chain {CHAIN_ID}"):
            await node.head()


async def test_what_is_not_about_the_number_changes_nothing(relay: Relay) -> None:
    async with asking(relay.url) as node:
        relay.twist = lambda _, __: web.Response(status=502)
        with pytest.raises(RetryElsewhere):
            await node.head()
        relay.twist = lambda _, __: web.Response(status=429)
        with pytest.raises(Paused):
            await node.head()
        relay.twist = lambda _, answers: answers
        assert await node.batch_room() == 101


async def test_a_contract_that_speaks_of_batches_is_no_limit(relay: Relay) -> None:
    def reverts(asked: Answers, answers: Answers) -> Any:
        error = {"code": 3, "message": "execution reverted: batch closed", "data": "0x"}
        calls = {request["id"] for request in asked if request["method"] == "eth_call"}
        return [
            {"jsonrpc": "2.0", "id": reply["id"], "error": error} if reply["id"] in calls else reply
            for reply in answers
        ]

    relay.twist = reverts
    async with asking(relay.url) as node:
        (value,) = await node.views([LATEST_TASK_NUM.call()], ADDRESS, await node.head())
    assert isinstance(value, Reverted)


@pytest.mark.parametrize(("most", "room"), [(1000, 101), (50, 50), (20, 12), (1, 1)])
async def test_the_limit_is_found_without_a_big_question(relay: Relay, most: int, room: int) -> None:
    relay.twist = limiting(most, _error_for_all)
    async with asking(relay.url) as node:
        assert await node.batch_room() == room


async def test_a_limit_is_forgotten_after_an_hour(relay: Relay) -> None:
    relay.twist = limiting(3, _error_for_all)
    clock = Later()
    node = Node(relay.url, CHAIN_ID, clock)
    try:
        await read_all(node)
        relay.twist = lambda _, answers: answers
        assert await node.batch_room() == 2
        clock.ahead_s = 3601.0
        assert await node.batch_room() == 101
    finally:
        await node.close()
