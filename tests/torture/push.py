"""The WebSocket half of the proxy: relays subscriptions, and stalls, closes, doubles, reorders or invents on order."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import aiohttp
from aiohttp import web

from tests.torture.rpc_faults import PUSH, RpcFault, RpcFaultBook, RpcFaultKind

HALF_OPEN_S = 25.0
CLOSE_CODES = (1000, 1001, 1006, 1011, 1012)

Socket = web.WebSocketResponse
Upstream = aiohttp.ClientWebSocketResponse


class _Frozen(Exception):
    """From now on this connection is half open."""


class Push:
    """Serves one client each; a fault strikes a connection when a notification is about to pass."""

    def __init__(self, target: str, faults: RpcFaultBook) -> None:
        self._target, self._faults = target, faults
        self._open: set[asyncio.Task[Any]] = set()

    def drop_all(self) -> None:
        for task in self._open:
            task.cancel()

    async def serve(self, request: web.Request, endpoint: str, session: aiohttp.ClientSession) -> web.StreamResponse:
        client = web.WebSocketResponse()
        await client.prepare(request)
        relay = asyncio.create_task(self._relay(client, endpoint, session))
        self._open.add(relay)
        try:
            await asyncio.wait([relay])
        finally:
            self._open.discard(relay)
            relay.cancel()
        if not relay.cancelled() and isinstance(relay.exception(), _Frozen):
            # Nobody reads or writes any more: no pong, no close frame, no end of the stream.
            await asyncio.sleep(HALF_OPEN_S)
        if request.transport is not None:
            request.transport.abort()
        return client

    async def _relay(self, client: Socket, endpoint: str, session: aiohttp.ClientSession) -> None:
        try:
            async with session.ws_connect(self._target) as node:
                up = asyncio.create_task(_pump_up(client, node))
                down = asyncio.create_task(_Downwards(self._faults, endpoint, client).pump(node))
                try:
                    await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
                    if down.done():
                        down.result()
                finally:
                    for pipe in (up, down):
                        pipe.cancel()
                    await asyncio.gather(up, down, return_exceptions=True)
        except (aiohttp.ClientError, ConnectionError):
            pass


async def _pump_up(client: Socket, node: Upstream) -> None:
    async for message in client:
        if message.type is aiohttp.WSMsgType.TEXT:
            await node.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await node.send_bytes(message.data)


class _Downwards:
    """From the node to the client, with the faults."""

    def __init__(self, faults: RpcFaultBook, endpoint: str, client: Socket) -> None:
        self._faults, self._endpoint, self._client = faults, endpoint, client
        self._stalled = False
        self._kept_back: str | None = None

    async def pump(self, node: Upstream) -> None:
        with suppress(ConnectionError):
            async for message in node:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    continue
                if '"eth_subscription"' not in message.data:
                    await self._client.send_str(message.data)
                elif not self._stalled and not await self._pass(message.data):
                    return

    async def _pass(self, text: str) -> bool:
        """One notification to the client. False ends the connection."""
        for fault in self._faults.drawn(PUSH, self._endpoint):
            if await self._fault(fault, text):
                return not self._client.closed
        await self._client.send_str(text)
        if self._kept_back is not None:
            await self._client.send_str(self._kept_back)
            self._kept_back = None
        return True

    async def _fault(self, fault: RpcFault, text: str) -> bool:
        """Whether the fault took the notification's place."""
        if fault.kind is RpcFaultKind.PUSH_REMOVED:
            if (removed := _removed(text)) is None:
                return False
            self._faults.strike(fault, self._endpoint)
            await self._client.send_str(removed)
            return False
        self._faults.strike(fault, self._endpoint)
        match fault.kind:
            case RpcFaultKind.PUSH_STALLED:
                self._stalled = True
            case RpcFaultKind.PUSH_HALF_OPEN:
                raise _Frozen
            case RpcFaultKind.PUSH_CLOSED:
                code = self._faults.chance.choice(CLOSE_CODES)
                if code != 1006:  # which is no code but the absence of one
                    await self._client.close(code=code, message=b"going away")
                    return True
                raise ConnectionResetError
            case RpcFaultKind.PUSH_SHUFFLED:
                self._kept_back = text
            case RpcFaultKind.PUSH_DOUBLED:
                await self._client.send_str(text)
                return False
        return True


def _removed(text: str) -> str | None:
    """The same log, called removed. None where it is no log."""
    pushed = json.loads(text)
    log = pushed.get("params", {}).get("result")
    if not isinstance(log, dict) or "logIndex" not in log:
        return None
    log["removed"] = True
    return json.dumps(pushed)
