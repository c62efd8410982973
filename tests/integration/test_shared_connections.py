"""AVSs of one process share connections to a node, and one socket for its heads."""

import asyncio
from collections.abc import Callable
from random import Random

from aiohttp import WSMsgType, web
from eth_hash.auto import keccak

from watcher.chain.rpc.bloom import Interest
from watcher.chain.rpc.connections import Connections
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.poll import Pushed
from watcher.clock import SystemClock

CHAIN_ID = 7
TOPIC = b"\x22" * 32
INTERESTS = {name: Interest(name.encode() * 20, [TOPIC]) for name in "ab"}


def _head(number: int, address: bytes) -> dict[str, str]:
    """Return a header whose block has a log of `address`. The filter is built here from the definition of M."""
    bits = {int.from_bytes(keccak(item)[at : at + 2]) % 2048 for item in (address, TOPIC) for at in (0, 2, 4)}
    bloom = sum(1 << bit for bit in bits).to_bytes(256)
    return {"number": hex(number), "hash": "0x" + "aa" * 32, "logsBloom": "0x" + bloom.hex()}


async def test_one_socket_serves_all_and_tells_each_whether_a_head_concerns_it() -> None:
    sockets: list[web.WebSocketResponse] = []
    subjects: list[str] = []
    subscribed = asyncio.Event()

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        sockets.append(socket)
        async for message in socket:
            if message.type is WSMsgType.BINARY or message.type is WSMsgType.TEXT:
                asked = message.json()
                if asked["method"] == "eth_subscribe":
                    subjects.append(asked["params"][0])
                    subscribed.set()
                result = hex(CHAIN_ID) if asked["method"] == "eth_chainId" else "0x1"
                await socket.send_json({"jsonrpc": "2.0", "id": asked["id"], "result": result})
        return socket

    application = web.Application()
    application.router.add_get("/", serve)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"ws://127.0.0.1:{runner.addresses[0][1]}/"
    connections = Connections(SystemClock(), Random(1))
    pushed: dict[str, asyncio.Queue[tuple[int, bool]]] = {"a": asyncio.Queue(), "b": asyncio.Queue()}

    def taking(queue: asyncio.Queue[tuple[int, bool]]) -> Callable[[Pushed | None], None]:
        return lambda block: None if block is None else queue.put_nowait((block.number, block.concerns))

    following = [
        asyncio.create_task(connections.follow_heads(url, CHAIN_ID, INTERESTS[name], taking(queue)))
        for name, queue in pushed.items()
    ]

    async def push(number: int, address: bytes) -> None:
        params = {"subscription": "0x1", "result": _head(number, address)}
        await sockets[0].send_json({"jsonrpc": "2.0", "method": "eth_subscription", "params": params})

    try:
        async with asyncio.timeout(10):
            await subscribed.wait()
            await push(5, b"a" * 20)
            assert [await queue.get() for queue in pushed.values()] == [(5, True), (5, False)]
            following[0].cancel()
            await asyncio.gather(following[0], return_exceptions=True)
            await push(6, b"b" * 20)
            assert await pushed["b"].get() == (6, True)
        assert (len(sockets), subjects, pushed["a"].empty()) == (1, ["newHeads"], True)
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        await connections.close()
        await runner.cleanup()


async def test_a_pool_that_closes_leaves_shared_connections_open() -> None:
    connections = Connections(SystemClock(), Random(1))
    url = "http://127.0.0.1:9"
    shared = connections.transport(url, 1 << 20)
    assert connections.transport(url, 1 << 20) is shared
    assert connections.transport(url, 1 << 21) is not shared
    session = shared._open_session()
    await Node(url, 1, SystemClock(), transport=shared).close()
    assert not session.closed
    await connections.close()
    assert session.closed
