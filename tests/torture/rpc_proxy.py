"""A proxy in front of a real node that misbehaves on order: JSON-RPC over HTTP, single and batch, and WebSocket.

    proxy = RpcProxy(anvil.http_url, folder / "rpc-faults.jsonl", random.Random(seed))
    await proxy.start()
    proxy.url("a"), proxy.url("b")      # two endpoints for one node, each with its own misfortunes
    proxy.faults.add(RpcFault(RpcFaultKind.LOGS_DROPPED, probability=0.2))

The journal holds the faults that really changed an answer.
"""

import asyncio
import gzip
import json
import random
import socket
import struct
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.torture.push import Push
from tests.torture.rpc_faults import (
    ANSWER,
    ASKED,
    BODY,
    INSTEAD,
    RANGE_DIALECTS,
    RATE_DIALECTS,
    RETRY_AFTER,
    RETRY_AFTER_SHORT,
    VIEW,
    RpcFault,
    RpcFaultBook,
    RpcFaultKind,
)
from tests.torture.rpc_twists import TWISTS, Item, early_finality
from tests.torture.sight import Sight, without_old_state

PAGE = b"<html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>"


class RpcProxy:
    """`target` is the node's http URL; its WebSocket has the same port. `key` stands in the path, as a secret does."""

    def __init__(self, target: str, journal: Path, chance: random.Random, *, slots: int = 32, key: str = "key") -> None:
        self.faults = RpcFaultBook(chance, journal)
        self.requests = 0
        self.port = 0
        self._target, self._slots, self._key = target, slots, key
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._push = Push(target.replace("http", "ws", 1), self.faults)
        self._count = 0

    def url(self, endpoint: str) -> str:
        return f"http://127.0.0.1:{self.port}/{endpoint}/{self._key}"

    def ws_url(self, endpoint: str) -> str:
        return f"ws://127.0.0.1:{self.port}/{endpoint}/{self._key}"

    async def start(self) -> None:
        """Listens: the first time on a free port, later on the same one."""
        self._session = aiohttp.ClientSession(trust_env=False, connector=aiohttp.TCPConnector(limit=64))
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{endpoint}/{tail:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Every connection breaks, subscriptions are lost, and new connections are refused until `start`."""
        self._push.drop_all()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        endpoint = request.match_info["endpoint"]
        if request.headers.get("Upgrade", "").lower() == "websocket":
            assert self._session is not None
            return await self._push.serve(request, endpoint, self._session)
        self.requests += 1
        body_json = json.loads(await request.read())
        asked: list[Item] = body_json if isinstance(body_json, list) else [body_json]
        for fault in self.faults.drawn((RpcFaultKind.SLOW,), endpoint):
            self.faults.strike(fault, endpoint)
            await asyncio.sleep(self.faults.chance.uniform(0.1, fault.seconds))
        for fault in self.faults.drawn(INSTEAD, endpoint):
            if (refused := self._instead(fault, endpoint, asked, request)) is not None:
                return refused
        try:
            answers = await self._answers(asked, endpoint)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return web.Response(status=502, body=PAGE, content_type="text/html")
        for fault in self.faults.drawn(ANSWER, endpoint):
            if TWISTS[fault.kind](fault, self.faults.chance, asked, answers):
                self.faults.strike(fault, endpoint, methods=[request["method"] for request in asked][:5])
        body = json.dumps(answers if isinstance(body_json, list) else answers[0]).encode()
        for fault in self.faults.drawn(BODY, endpoint)[:1]:
            return await self._spoiled(fault, endpoint, answers, body, request)
        return web.Response(body=body, content_type="application/json")

    async def _answers(self, asked: list[Item], endpoint: str) -> list[Item]:
        """What the node says, or what one would say that is some blocks behind."""
        for fault in self.faults.drawn(ASKED, endpoint):
            twisted = early_finality(asked)
            if twisted != asked:
                self.faults.strike(fault, endpoint)
                asked = twisted
        for fault in self.faults.drawn(VIEW, endpoint):
            self._count += 1
            if fault.kind is RpcFaultKind.REPLICAS and self._count % 2:
                continue
            if fault.kind is RpcFaultKind.STATE_PRUNED:
                answers, changed = await without_old_state(self._post, asked, fault.blocks)
            else:
                sight = Sight(self._post, fault.blocks, self._slots)
                answers, changed = await sight.answers(asked, geth=self.faults.chance.random() < 0.5)
            if changed:
                self.faults.strike(fault, endpoint, blocks=fault.blocks)
            return answers
        replies: list[Item] = await self._post(asked)
        return replies

    async def _post(self, payload: Any) -> Any:
        assert self._session is not None
        timeout = aiohttp.ClientTimeout(total=30)
        async with self._session.post(self._target, json=payload, timeout=timeout) as answer:
            return json.loads(await answer.read())

    def _instead(
        self, fault: RpcFault, endpoint: str, asked: list[Item], request: web.Request
    ) -> web.StreamResponse | None:
        """An answer in the node's place; None where this fault does not fit the question."""
        chance, kind = self.faults.chance, fault.kind
        if kind is RpcFaultKind.RANGE_REFUSED:
            return self._range_refused(fault, endpoint, asked)
        if kind is RpcFaultKind.RATE_LIMITED_RPC:
            code, message = chance.choice(RATE_DIALECTS)
            self.faults.strike(fault, endpoint, code=code)
            return _errors(asked, code, message)
        if kind is RpcFaultKind.RATE_LIMITED:
            # Endpoint "a" asks for short pauses only: with both away for minutes nothing would be tried at all.
            after = chance.choice(RETRY_AFTER_SHORT if endpoint == "a" else RETRY_AFTER)
            self.faults.strike(fault, endpoint, retry_after=after)
            return web.Response(status=429, headers={} if after is None else {"Retry-After": after})
        self.faults.strike(fault, endpoint)
        if kind is RpcFaultKind.UNAVAILABLE:
            return web.Response(status=chance.choice((500, 502, 503, 504)), body=PAGE, content_type="text/html")
        if kind is RpcFaultKind.RESET:
            _reset(request)
            return web.Response()
        return web.Response(body=PAGE if kind is RpcFaultKind.HTML else b"", content_type="text/html")

    def _range_refused(self, fault: RpcFault, endpoint: str, asked: list[Item]) -> web.StreamResponse | None:
        spans = [request["params"][0] for request in asked if request["method"] == "eth_getLogs"]
        if not any(int(span["toBlock"], 16) > int(span["fromBlock"], 16) for span in spans):
            return None
        number = self.faults.chance.randrange(len(RANGE_DIALECTS))
        status, code, message = RANGE_DIALECTS[number]
        self.faults.strike(fault, endpoint, dialect=number)
        return _errors(asked, code, message, status) if message else web.Response(status=status)

    async def _spoiled(
        self, fault: RpcFault, endpoint: str, answers: list[Item], body: bytes, request: web.Request
    ) -> web.StreamResponse:
        chance, kind = self.faults.chance, fault.kind
        self.faults.strike(fault, endpoint)
        match kind:
            case RpcFaultKind.WRONG_IDS:
                body = json.dumps([reply | {"id": chance.choice((999_999, None, "0"))} for reply in answers]).encode()
            case RpcFaultKind.ITEM_MISSING:
                body = json.dumps(answers[:-1]).encode()
            case RpcFaultKind.SHUFFLED:
                body = json.dumps(chance.sample(answers, len(answers))).encode()
            case RpcFaultKind.GZIPPED:
                packed = gzip.compress(body, 1)
                return web.Response(body=packed, headers={"Content-Encoding": "gzip"}, content_type="application/json")
            case RpcFaultKind.HUGE:
                body += b" " * fault.size_bytes
            case RpcFaultKind.TRUNCATED:
                return await _truncated(body, request)
        return web.Response(body=body, content_type="application/json")


def _errors(asked: list[Item], code: int, message: str, status: int = 200) -> web.Response:
    error = {"code": code, "message": message}
    return web.json_response(
        [{"jsonrpc": "2.0", "id": request.get("id"), "error": error} for request in asked], status=status
    )


def _reset(request: web.Request) -> None:
    """A RST, not an orderly end: lingering for zero seconds makes the kernel send one."""
    if (transport := request.transport) is not None:
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


async def _truncated(body: bytes, request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(body)
    try:
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
    except ConnectionError:
        pass
    if request.transport is not None:
        request.transport.close()
    return response
