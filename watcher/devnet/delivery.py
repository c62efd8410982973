"""How an answer of the emulator reaches the client: whole, cut, dripping, or not at all."""

import asyncio
import socket
import struct

from aiohttp import web

from watcher.devnet.faults import Answer, Delivery

CHUNK = b" " * 65536


async def deliver(request: web.Request, answer: Answer) -> web.StreamResponse:
    if answer.delivery is Delivery.HANG:
        await _hang(request, answer.seconds)
    if answer.delivery in (Delivery.HANG, Delivery.RESET):
        return _reset(request, answer)
    if answer.delivery is Delivery.WHOLE and not answer.pad_bytes:
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body) + answer.pad_bytes
    try:
        await response.prepare(request)
        await _write(response, request, answer)
    except ConnectionError:
        pass  # the client had enough, as it should
    return response


async def _write(response: web.StreamResponse, request: web.Request, answer: Answer) -> None:
    if answer.delivery is Delivery.TRUNCATED:
        await response.write(answer.body[: len(answer.body) // 2])
        if request.transport is not None:
            request.transport.close()
        return
    if answer.delivery is Delivery.DRIP:
        for position in range(len(answer.body)):
            await response.write(answer.body[position : position + 1])
            await asyncio.sleep(answer.seconds)
        return
    await response.write(answer.body)
    left = answer.pad_bytes
    while left > 0:
        await response.write(CHUNK[:left])
        left -= len(CHUNK)


async def _hang(request: web.Request, seconds: float) -> None:
    """Until the time is over or the client has gone."""
    try:
        async with asyncio.timeout(seconds):
            while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    except TimeoutError:
        pass


def _reset(request: web.Request, answer: Answer) -> web.Response:
    """A reset (RST), not an orderly end: lingering for zero seconds makes the kernel send one."""
    if (transport := request.transport) is not None:
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response(status=answer.status)
