"""Forms that every client of a chain reads: encodings, envelopes, and refusals of a range that say what they like."""

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from tests.integration.node_rig import Answers, Relay, asking
from tests.wizard import TOPICS0
from watcher.chain.rpc.calls import LogQuery
from watcher.chain.rpc.errors import Overloaded, Paused, ShutOut
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.replies import Unread
from watcher.errors import NarrowRange, RetryElsewhere

ADDRESS = b"\x11" * 20
CALLS = [b"\x01\x02\x03\x04" + index.to_bytes(32) for index in range(40)]


def wide(node: Node) -> Any:
    return node.page(LogQuery(ADDRESS, TOPICS0, 1, 8))


def single(node: Node) -> Any:
    return node.page(LogQuery(ADDRESS, TOPICS0, 8, 8))


def encoded(name: str, pack: Callable[[bytes], bytes]) -> Callable[[Answers, Answers], web.Response]:
    return lambda _, answers: web.Response(
        body=pack(json.dumps(answers).encode()), headers={"Content-Encoding": name}, content_type="application/json"
    )


def raw_deflate(body: bytes) -> bytes:
    return zlib.compress(body, wbits=-zlib.MAX_WBITS)


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        *((name, bytes) for name in ("identity", "none", "", "utf-8", "UTF8", "null", "binary", "8bit", "aws-chunked")),
        ("gzip", gzip.compress),
        ("X-GZIP", gzip.compress),
        ("identity, gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
    ],
)
async def test_an_answer_is_read_when_its_content_encoding_is_harmless(relay: Relay, name: str, pack: Any) -> None:
    relay.twist = encoded(name, pack)
    async with asking(relay.url) as node:
        assert (await wide(node)).last.number == 8
    assert relay.headers[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("br", bytes),
        ("zstd", bytes),
        ("gzip, gzip", lambda body: gzip.compress(gzip.compress(body))),
        ("gzip", bytes),
        ("gzip", lambda body: gzip.compress(body)[:-9]),
        ("deflate", lambda body: b"\xff" + zlib.compress(body)),
        ("gzip", lambda body: b""),
    ],
)
async def test_an_answer_is_refused_when_it_is_packed_otherwise(relay: Relay, name: str, pack: Any) -> None:
    relay.twist = encoded(name, pack)
    async with asking(relay.url) as node:
        with pytest.raises(RetryElsewhere):
            await single(node)


async def test_an_answer_is_cut_off_when_it_unpacks_beyond_its_limit(relay: Relay) -> None:
    bomb = gzip.compress(b"[" + b" " * 64_000_000 + b"]")
    relay.twist = lambda _, __: web.Response(body=bomb, headers={"Content-Encoding": "gzip"})
    async with asking(relay.url, body_limit_bytes=1_000_000) as node:
        with pytest.raises(Overloaded, match="longer than 1000000 bytes"):
            await single(node)


@pytest.mark.parametrize("size", [5_000_000, 20_000_000])
async def test_a_head_has_a_limit_of_its_own_whatever_logs_may_take(relay: Relay, size: int) -> None:
    relay.twist = lambda _, answers: json.dumps(answers).encode() + b" " * size
    async with asking(relay.url, body_limit_bytes=32_000_000) as node:
        with pytest.raises(Overloaded, match="longer than"):
            await node.head()
        assert (await wide(node)).last.number == 8, "logs may take more"


def refusing(refusal: Any) -> Callable[[Answers, Answers], Any]:
    """Requests for logs of more than one block get `said`: a response, or the item in place of the logs."""

    def twist(asked: Answers, answers: Answers) -> Any:
        for ask, reply in zip(asked, answers, strict=True):
            if ask["method"] == "eth_getLogs" and ask["params"][0]["fromBlock"] != ask["params"][0]["toBlock"]:
                if callable(refusal):
                    return refusal(answers)
                reply.pop("result", None)
                reply.update(refusal)
        return answers

    return twist


def whole(status: int, body: Any) -> Callable[[Answers], web.Response]:
    text = body if isinstance(body, str) else json.dumps(body)
    return lambda _: web.Response(status=status, text=text)


ANY_REFUSAL: list[Any] = [
    {"result": "query returned more than 10000 results"},
    {"result": {"message": "block range too wide"}},
    {"result": 7},
    {"error": {"code": 429, "message": "block range exceeds your quota of 1000 blocks"}},
    {"error": {"code": -32005, "message": "request rate: at most 500 results per call"}},
    {"error": {"code": -32601, "message": "eth_getLogs over more than 5 blocks is not available"}},
    {"error": {"code": 3, "message": "execution reverted"}},
    whole(200, {"message": "block range is too wide"}),
    whole(200, {"code": -32005, "detail": "exceeds"}),
    whole(200, {"jsonrpc": "2.0", "id": None, "error": "no"}),
    whole(200, "block range is too wide"),
    whole(200, '"block range is too wide"'),
    whole(200, ""),
    whole(200, "<html>request too large</html>"),
    whole(204, ""),
    whole(400, {"error": "block range"}),
    whole(401, "a plan for archive queries is needed"),
    whole(402, {"message": "pay"}),
    whole(403, "range over 10000 blocks is forbidden"),
    whole(404, "no such query"),
    whole(413, "<html>"),
    whole(414, ""),
    whole(418, ""),
    whole(422, {"errors": ["range"]}),
    whole(429, {"error": {"message": "logs response size exceeds quota"}}),
    whole(500, {"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "internal"}}),
    whole(503, "overloaded"),
]


@pytest.mark.parametrize("refusal", ANY_REFUSAL)
async def test_a_range_is_narrowed_whatever_form_its_refusal_has(relay: Relay, refusal: Any) -> None:
    relay.twist = refusing(refusal)
    async with asking(relay.url) as node:
        with pytest.raises(NarrowRange):
            await wide(node)
        assert (await single(node)).last.number == 8


@pytest.mark.parametrize("body", [b"", b"maintenance", b'{"message": "maintenance"}', b'"no"'])
async def test_a_node_that_refuses_the_trivial_too_has_failed(relay: Relay, body: bytes) -> None:
    relay.twist = lambda _, __: body
    async with asking(relay.url) as node:
        with pytest.raises(RetryElsewhere) as caught:
            await wide(node)
    assert not isinstance(caught.value, NarrowRange)


async def test_a_pause_asked_for_again_and_again_for_one_range_narrows_it(relay: Relay) -> None:
    relay.twist = refusing({"error": {"code": -32005, "message": "slow down"}})
    async with asking(relay.url) as node:
        for _ in range(2):
            with pytest.raises(Paused):
                await wide(node)
        with pytest.raises(NarrowRange):
            await wide(node)
        with pytest.raises(Paused):
            await wide(node)


async def test_a_forbidden_key_is_no_refusal_of_a_range(relay: Relay) -> None:
    relay.twist = lambda _, __: web.Response(status=403)
    async with asking(relay.url) as node:
        with pytest.raises(ShutOut):
            await wide(node)


@pytest.mark.parametrize("status", [400, 500, 503])
async def test_errors_of_calls_are_read_when_their_request_has_an_http_error(relay: Relay, status: int) -> None:
    def twist(asked: Answers, answers: Answers) -> Any:
        error = {"error": {"code": 3, "message": "execution reverted", "data": "0x"}}
        each = [
            {"jsonrpc": "2.0", "id": reply["id"]} | error if ask["method"] == "eth_call" else reply
            for ask, reply in zip(asked, answers, strict=True)
        ]
        return web.json_response(each, status=status)

    head = None
    async with asking(relay.url) as node:
        head = await node.head()
        relay.twist = twist
        (value,) = await node.views(CALLS[:1], ADDRESS, head)
    assert not isinstance(value, bytes | Unread), "a revert, and no failure of the node"


@pytest.mark.parametrize("status", [400, 413, 500, 403])
async def test_a_call_that_takes_its_request_down_is_unread_alone(relay: Relay, status: int) -> None:
    poison = "0x" + CALLS[23].hex()

    def twist(asked: Answers, answers: Answers) -> Any:
        if any(ask["method"] == "eth_call" and ask["params"][0]["data"] == poison for ask in asked):
            return web.Response(status=status)
        return answers

    async with asking(relay.url) as node:
        head = await node.head()
        relay.twist = twist
        values = await node.views(CALLS, ADDRESS, head)
    assert [place for place, value in enumerate(values) if isinstance(value, Unread)] == [23]
    assert len(values) == 40 and all(value == b"" for place, value in enumerate(values) if place != 23)


async def test_node_that_fails_every_call_gets_a_bounded_number_of_requests(relay: Relay) -> None:
    def twist(asked: Answers, answers: Answers) -> Any:
        return web.Response(status=500) if any(ask["method"] == "eth_call" for ask in asked) else answers

    async with asking(relay.url) as node:
        head = await node.head()
        relay.twist = twist
        relay.asked.clear()
        with pytest.raises(RetryElsewhere) as caught:
            await node.views(CALLS, ADDRESS, head)
    assert not isinstance(caught.value, NarrowRange)
    assert sum("eth_call" in asked for asked in relay.asked) <= 25
