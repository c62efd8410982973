"""Everything a node may do wrong over HTTP becomes one of three errors, in time, and without the URL's secrets."""

import asyncio
import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from tests.integration.node_rig import SECRET, Answers, Relay, asking, relaying, serving, speaking
from tests.wizard import LATEST_TASK_NUM, TOPICS0
from watcher.chain.rpc.calls import LogQuery
from watcher.chain.rpc.errors import Overloaded, Paused, ShutOut
from watcher.chain.rpc.node import Node
from watcher.errors import NarrowRange, RetryElsewhere, StaleNode

ADDRESS = b"\x11" * 20


def wide(node: Node) -> Any:
    return node.page(LogQuery(ADDRESS, TOPICS0, 1, 8))


def narrow(node: Node) -> Any:
    return node.page(LogQuery(ADDRESS, TOPICS0, 8, 8))


def answer(asked: Answers, answers: Answers, method: str) -> dict[str, Any]:
    number = next(request["id"] for request in asked if request["method"] == method)
    return next(reply for reply in answers if reply["id"] == number)


def logs_fail(error: Any) -> Callable[[Answers, Answers], Any]:
    def twist(asked: Answers, answers: Answers) -> Any:
        for request in asked:
            if request["method"] == "eth_getLogs":
                reply = answer(asked, answers, "eth_getLogs")
                reply.pop("result", None)
                reply["error"] = error
        return answers

    return twist


async def fails(question: Any, kind: type[RetryElsewhere] = RetryElsewhere) -> RetryElsewhere:
    """The error of exactly this kind, with no secret in it."""
    with pytest.raises(RetryElsewhere) as caught:
        await question
    assert type(caught.value) is kind, caught.value
    assert SECRET not in f"{caught.value!s} {caught.value!r}"
    assert "http://127.0.0.1:" in str(caught.value)
    return caught.value


BAD_BODIES: list[bytes] = [
    b"",
    b"<html>Bad gateway</html>",
    b"[" * 100_000,
    b'{"jsonrpc":"2.0","id":0,"result":"0x7a69"}',
    b"[]",
    b"null",
    b"\xff\xfe\x00",
    b"[NaN]",
]


@pytest.mark.parametrize("body", BAD_BODIES)
async def test_a_body_that_is_no_answer_is_a_retry(relay: Relay, body: bytes) -> None:
    relay.twist = lambda _, __: body
    async with asking(relay.url) as node:
        await fails(wide(node))
        await fails(node.head())


def _wrong_ids(_: Answers, answers: Answers) -> Any:
    return [reply | {"id": reply["id"] + 1000} for reply in answers]


def _truncated(_: Answers, answers: Answers) -> Any:
    return json.dumps(answers).encode()[:-5]


def _missing(_: Answers, answers: Answers) -> Any:
    return answers[:-1]


def _both(_: Answers, answers: Answers) -> Any:
    return [reply | {"error": {"code": 1, "message": "also"}} for reply in answers]


def _nulls(_: Answers, answers: Answers) -> Any:
    return [reply | {"result": None} for reply in answers]


@pytest.mark.parametrize("twist", [_wrong_ids, _truncated, _missing, _both, _nulls])
async def test_a_batch_that_is_not_answered_exactly_is_a_retry(relay: Relay, twist: Any) -> None:
    relay.twist = twist
    async with asking(relay.url) as node:
        await fails(wide(node))


async def test_answers_out_of_order_are_fine(relay: Relay) -> None:
    relay.twist = lambda _, answers: answers[::-1]
    async with asking(relay.url) as node:
        assert (await wide(node)).last.number == 8


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(relay: Relay, status: int) -> None:
    async with relaying(relay.target) as other, asking(relay.url) as node:
        headers = {"Location": other.url}
        relay.twist = lambda _, __: web.Response(status=status, headers=headers)
        assert "redirects" in str(await fails(wide(node), ShutOut))
        assert other.asked == []


@pytest.mark.parametrize(("header", "seconds"), [("17", 17.0), ("99999999", 300.0), ("-1", 0.0), (None, None)])
async def test_a_rate_limit_carries_its_pause_within_limits(
    relay: Relay, header: str | None, seconds: float | None
) -> None:
    headers = {} if header is None else {"Retry-After": header}
    relay.twist = lambda _, __: web.Response(status=429, headers=headers, text=f"no, /v2/{SECRET}")
    async with asking(relay.url) as node:
        error = await fails(wide(node), Paused)
    assert isinstance(error, Paused) and error.cool_down_s == seconds


async def test_a_rate_limit_inside_json_is_a_pause_and_not_a_narrow_range(relay: Relay) -> None:
    relay.twist = logs_fail({"code": -32005, "message": f"rate limit of {SECRET}\x1b[31m\n reached"})
    async with asking(relay.url) as node:
        error = await fails(wide(node), Paused)
    assert "rate limit of [redacted]" in str(error) and str(error).isprintable()


@pytest.mark.parametrize("status", [401, 402, 403, 404])
async def test_a_refused_key_is_a_pause_with_advice(relay: Relay, status: int) -> None:
    relay.twist = lambda _, __: web.Response(status=status, text=SECRET)
    async with asking(relay.url) as node:
        assert "check the key" in str(await fails(wide(node), ShutOut))


@pytest.mark.parametrize(
    "error",
    [
        {"code": -32005, "message": "query returned more than 10000 results"},
        {"code": -32602, "message": "block range is too wide"},
        {"code": -32000, "message": "something nobody has ever read"},
        "a string",
        {},
    ],
)
async def test_any_refusal_of_a_long_span_asks_for_a_shorter_one(relay: Relay, error: Any) -> None:
    relay.twist = logs_fail(error)
    async with asking(relay.url) as node:
        await fails(wide(node), NarrowRange)
        await fails(narrow(node), RetryElsewhere)


@pytest.mark.parametrize("status", [400, 413, 500, 503])
async def test_a_status_that_may_mean_too_much_narrows_only_while_the_node_lives(relay: Relay, status: int) -> None:
    def too_much(asked: Answers, answers: Answers) -> Any:
        hard = any(request["method"] != "eth_chainId" for request in asked)
        return web.Response(status=status) if hard else answers

    relay.twist = too_much
    async with asking(relay.url) as node:
        await fails(wide(node), NarrowRange)
        await fails(narrow(node), Overloaded)
        relay.twist = lambda _, __: web.Response(status=status)
        await fails(wide(node), Overloaded)


async def test_a_long_answer_is_cut_off_while_it_is_read(relay: Relay) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while sent < 1 << 30:
                await response.write(b" " * 65_536)
                sent += 65_536
        except ConnectionError:
            pass
        return response

    async with serving(endless) as url, asking(url, body_limit_bytes=1_000_000) as node:
        assert "longer than 1000000 bytes" in str(await fails(narrow(node), Overloaded))
    assert sent < 64 << 20


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", Overloaded),
        (HEAD + b"[{", Overloaded),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Overloaded),
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 100_000 + b"\r\n\r\n", RetryElsewhere),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", RetryElsewhere),
        (b"HTTP/1.1 999 \xff\xfe\r\n\r\n", RetryElsewhere),
        (b"\x16\x03\x01\x02\x00\x01" * 50 + b"\r\n\r\n", RetryElsewhere),
    ],
)
async def test_broken_http_is_a_retry(raw: bytes, kind: type[RetryElsewhere]) -> None:
    async with speaking(raw) as url, asking(url) as node:
        with pytest.raises(RetryElsewhere) as caught:
            await narrow(node)
    assert type(caught.value) in (kind, Overloaded, RetryElsewhere)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("drip_s", [None, 0.02])
async def test_a_node_that_hangs_or_drips_is_left_at_the_deadline(drip_s: float | None) -> None:
    raw = b"" if drip_s is None else HEAD + b" " * 400
    async with speaking(raw, drip_s=drip_s, hold=True) as url, asking(url, timeout_s=0.3) as node:
        async with asyncio.timeout(3):
            assert "within 0.3 s" in str(await fails(wide(node), Overloaded))


async def test_log_span_shrinks_when_it_times_out_on_a_living_node(relay: Relay) -> None:
    async def slow(asked: Answers) -> web.StreamResponse | None:
        if any(request["method"] == "eth_getLogs" for request in asked):
            await asyncio.sleep(30)
        return None

    relay.first = slow
    async with asking(relay.url, timeout_s=0.5) as node:
        await fails(wide(node), NarrowRange)


async def test_a_kept_alive_connection_that_the_server_closed_costs_nothing(relay: Relay) -> None:
    served = 0

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal served
        served += 1
        if served == 2:
            assert request.transport is not None
            request.transport.abort()
        return await relay.handle(request)

    async with serving(handle) as url, asking(url) as node:
        first = await node.head()
        assert await node.head() == first
    assert served == 3


async def test_a_replica_without_the_last_block_is_stale_even_when_it_has_logs(relay: Relay) -> None:
    def lagging(asked: Answers, answers: Answers) -> Any:
        return [
            reply | {"result": None} if ask["method"] == "eth_getBlockByNumber" else reply
            for ask, reply in zip(asked, answers, strict=True)
        ]

    def no_such_block(asked: Answers, answers: Answers) -> Any:
        error = {"code": -32000, "message": "unknown block"}
        return [
            reply if ask["method"] == "eth_chainId" else {"jsonrpc": "2.0", "id": reply["id"], "error": error}
            for ask, reply in zip(asked, answers, strict=True)
        ]

    relay.twist = lagging
    async with asking(relay.url) as node:
        await fails(wide(node), StaleNode)
        relay.twist = lambda _, answers: answers
        at = await node.head()
        relay.twist = no_such_block
        await fails(node.views([LATEST_TASK_NUM.call()], ADDRESS, at), StaleNode)


async def test_header_is_refused_when_its_height_differs_or_it_changes_meanwhile(relay: Relay) -> None:
    def other_height(asked: Answers, answers: Answers) -> Any:
        answer(asked, answers, "eth_getBlockByNumber")["result"]["number"] = "0x7"
        return answers

    def moved(asked: Answers, answers: Answers) -> Any:
        blocks = [reply for ask, reply in zip(asked, answers, strict=True) if ask["method"] == "eth_getBlockByNumber"]
        blocks[-1]["result"] = copy.deepcopy(blocks[-1]["result"]) | {"hash": "0x" + "ab" * 32}
        return answers

    async with asking(relay.url) as node:
        relay.twist = other_height
        assert "answered with block 7 when asked for 8" in str(await fails(wide(node)))
        relay.twist = moved
        assert "moved meanwhile" in str(await fails(wide(node)))


async def test_an_unknown_finality_tag_is_no_block_and_no_failure(relay: Relay) -> None:
    def unsupported(asked: Answers, answers: Answers) -> Any:
        reply = answer(asked, answers, "eth_getBlockByNumber")
        reply.pop("result")
        reply["error"] = {"code": -32602, "message": "invalid argument 0: hex string without 0x prefix"}
        return answers

    relay.twist = unsupported
    async with asking(relay.url) as node:
        assert await node.header("finalized") is None
        await fails(node.header(3))


async def test_every_question_is_a_batch_that_begins_with_the_chain_id(relay: Relay) -> None:
    async with asking(relay.url, batch_size=4) as node:
        head = await node.head()
        await wide(node)
        await node.views([LATEST_TASK_NUM.call()] * 4, ADDRESS, head)
        await node.transaction_receipt(b"\x01" * 32)
    assert len(relay.asked) == 5
    assert all(asked[0] == "eth_chainId" for asked in relay.asked)
    assert [len(asked) for asked in relay.asked if "eth_call" in asked] == [4, 2]


async def test_the_environment_names_no_proxy_for_us(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with asking(relay.url) as node:
        assert (await node.head()).number == 10


async def test_cancelling_a_question_leaves_the_node_usable(relay: Relay) -> None:
    entered = asyncio.Event()

    async def hang(_: Answers) -> web.StreamResponse | None:
        if not entered.is_set():
            entered.set()
            await asyncio.sleep(30)
        return None

    relay.first = hang
    async with asking(relay.url) as node:
        question = asyncio.create_task(node.head())
        await entered.wait()
        question.cancel()
        with pytest.raises(asyncio.CancelledError):
            await question
        assert (await node.head()).number == 10
