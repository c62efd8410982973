"""A real chain, a relay in front of it that twists answers, and a server that speaks whatever bytes it is told to."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from watcher.chain.rpc.node import Node
from watcher.clock import SystemClock
from watcher.devnet.anvil import Anvil, AnvilOptions
from watcher.devnet.anvil_binary import find_anvil
from watcher.devnet.chain import Chain
from watcher.devnet.rpc import Rpc

CHAIN_ID = 31337
SECRET = "s3cr3tk3y0123456789"

Answers = list[dict[str, Any]]
Twist = Callable[[Answers, Answers], Any]


@asynccontextmanager
async def running_chain(directory: Path, **options: Any) -> AsyncIterator[tuple[Chain, Anvil]]:
    """An anvil that mines on request only, unless told otherwise."""
    resolved = AnvilOptions(**({"mining": "auto"} | options))
    async with (
        Anvil(await find_anvil(), resolved, directory / "anvil.log") as anvil,
        aiohttp.ClientSession() as session,
    ):
        yield Chain(Rpc(session, anvil.http_url)), anvil


class Relay:
    """Hands requests to the chain behind it. `twist(requests, answers)` may change the answers, return bytes or a
    response of its own; `first` sees the request before the chain does and may answer in its place. A request outside
    a batch is a list of one to them, and its number in `alone`."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.twist: Twist = lambda _, answers: answers
        self.first: Callable[[Answers], Awaitable[web.StreamResponse | None]] | None = None
        self.asked: list[list[str]] = []
        self.alone: list[int] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        body_json = json.loads(body)
        asked = body_json if isinstance(body_json, list) else [body_json]
        if asked is not body_json:
            self.alone.append(len(self.asked))
        self.asked.append([request["method"] for request in asked])
        self.headers.append(dict(request.headers))
        if self.first is not None and (response := await self.first(asked)) is not None:
            return response
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.target, data=body, headers={"Content-Type": "application/json"}) as answer,
        ):
            answers = await answer.json()
        twisted = self.twist(asked, answers if asked is body_json else [answers])
        if isinstance(twisted, web.StreamResponse):
            return twisted
        if asked is not body_json and isinstance(twisted, list):
            (twisted,) = twisted
        return web.Response(body=twisted if isinstance(twisted, bytes) else json.dumps(twisted).encode())


@asynccontextmanager
async def serving(handle: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """A real HTTP server on a port of its own; yields its URL, with a secret in the path."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}/v2/{SECRET}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def relaying(target: str) -> AsyncIterator[Relay]:
    relay = Relay(target)
    async with serving(relay.handle) as relay.url:
        yield relay


@asynccontextmanager
async def speaking(raw: bytes, *, drip_s: float | None = None, hold: bool = False) -> AsyncIterator[str]:
    """A TCP server that reads a request's head and then sends `raw`, byte by byte if `drip_s`; `hold` keeps it open."""
    open_sockets: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_sockets.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            for piece in [raw] if drip_s is None else [raw[i : i + 1] for i in range(len(raw))]:
                writer.write(piece)
                await writer.drain()
                if drip_s is not None:
                    await asyncio.sleep(drip_s)
            if hold:
                await asyncio.Event().wait()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v2/{SECRET}"
    finally:
        server.close()
        for task in open_sockets:
            task.cancel()
        await asyncio.gather(*open_sockets, return_exceptions=True)


@asynccontextmanager
async def asking(url: str, **options: Any) -> AsyncIterator[Node]:
    node = Node(url, options.pop("chain_id", CHAIN_ID), SystemClock(), **({"timeout_s": 5.0} | options))
    try:
        yield node
    finally:
        await node.close()
