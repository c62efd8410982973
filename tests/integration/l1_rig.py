"""An Arbitrum-like chain, played by a relay in front of a plain one.

Each block of the plain chain, whose number is what contracts see in `block.number`, becomes `blocks_per_l1` blocks of
the chain the relay shows, each with the plain number in `l1BlockNumber`. Logs are in the first of them.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web
from eth_utils.crypto import keccak

from tests.integration.node_rig import SECRET, serving

AHEAD = 1_000_000
_REFUSED = {"code": -32601, "message": "contract creation is not supported in eth_call"}


class L1Relay:
    """`place` is which of its blocks the head is within the newest L1 block, from 0; `last_place` by default.

    `shows_l1`: blocks carry `l1BlockNumber`. `answers_creation`: an eth_call without `to` is run.
    """

    def __init__(self, target: str, blocks_per_l1: int) -> None:
        self.target = target
        self.blocks_per_l1 = blocks_per_l1
        self.place = blocks_per_l1 - 1
        self.shows_l1 = True
        self.answers_creation = True
        self.claims_l1: int | None = None
        self.url = ""
        self.asked: list[str] = []
        self._plain_hash: dict[str, str] = {}

    def number(self, plain: int, place: int = 0) -> int:
        """The number of a block of the shown chain."""
        return AHEAD + plain * self.blocks_per_l1 + place

    def plain(self, number: int) -> int:
        """The plain block that a block of the shown chain belongs to."""
        return (number - AHEAD) // self.blocks_per_l1

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body_json = await request.json()
        asked = body_json if isinstance(body_json, list) else [body_json]
        answers = [await self._answer(request) for request in asked]
        return web.json_response(answers if asked is body_json else answers[0])

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        method, params = request["method"], json.loads(json.dumps(request["params"]))
        self.asked.append(method)
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
        if method == "eth_call" and "to" not in params[0] and not self.answers_creation:
            return reply | {"error": _REFUSED}
        if method == "eth_getBlockByNumber":
            return reply | {"result": await self._block(params[0])}
        if method == "eth_getLogs":
            low, high = int(params[0]["fromBlock"], 16) - AHEAD, int(params[0]["toBlock"], 16) - AHEAD
            first, last = -(-low // self.blocks_per_l1), high // self.blocks_per_l1
            if last < max(first, 0):
                return reply | {"result": []}
            params[0] |= {"fromBlock": hex(max(first, 0)), "toBlock": hex(last)}
        elif params and isinstance(params[-1], dict) and "blockHash" in params[-1]:
            params[-1]["blockHash"] = self._plain_hash.get(params[-1]["blockHash"], params[-1]["blockHash"])
        elif method in ("eth_call", "eth_getCode", "eth_getStorageAt") and params[-1].startswith("0x"):
            params[-1] = hex(max(self.plain(int(params[-1], 16)), 0))
        answer = await self._ask(request | {"params": params})
        result = answer.get("result")
        for item in result if isinstance(result, list) else [result]:
            if isinstance(item, dict) and item.get("blockNumber"):
                item["blockNumber"] = hex(self.number(int(item["blockNumber"], 16)))
        return answer

    async def _block(self, which: str) -> dict[str, Any] | None:
        place = self.place if which == "latest" else 0
        if which.startswith("0x"):
            number = int(which, 16)
            if number < self.number(0):
                return await self._plain("0x0") if number == 0 else None
            place, which = (number - AHEAD) % self.blocks_per_l1, hex(self.plain(number))
        block, newest = await self._plain(which), await self._plain("latest")
        if block is None or newest is None:
            return None
        if block["number"] == newest["number"] and place > self.place:
            return None
        plain = int(block["number"], 16)
        before = block["parentHash"] if place == 0 else self._hash(block["hash"], place - 1)
        if place == 0 and plain:
            before = self._hash(before, self.blocks_per_l1 - 1)
        header = {"hash": self._hash(block["hash"], place), "parentHash": before, "timestamp": block["timestamp"]}
        if self.shows_l1:
            header["l1BlockNumber"] = hex(plain if self.claims_l1 is None else self.claims_l1)
        return header | {"number": hex(self.number(plain, place))}

    def _hash(self, plain_hash: str, place: int) -> str:
        """The first block of each has the plain one's hash, so that logs need no other."""
        if place == 0:
            return plain_hash
        changed_hash = "0x" + keccak(bytes.fromhex(plain_hash[2:]) + place.to_bytes(4)).hex()
        self._plain_hash[changed_hash] = plain_hash
        return changed_hash

    async def _plain(self, which: str) -> dict[str, Any] | None:
        call = {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": [which, False]}
        block: dict[str, Any] | None = (await self._ask(call))["result"]
        return block

    async def _ask(self, call: dict[str, Any]) -> dict[str, Any]:
        async with aiohttp.ClientSession() as session, session.post(self.target, json=call) as answer:
            reply: dict[str, Any] = await answer.json()
            return reply


@asynccontextmanager
async def l1_relaying(target: str, blocks_per_l1: int = 1) -> AsyncIterator[L1Relay]:
    """A running relay; its URL carries a secret, as those of providers do."""
    relay = L1Relay(target, blocks_per_l1)
    async with serving(relay.handle) as relay.url:
        assert SECRET in relay.url
        yield relay
