"""The delivery of an emulator's reply: whole, cut, byte by byte, or not at all."""

import asyncio
import socket
import struct

from aiohttp import web

from watcher.devnet.faults import Answer, Delivery

CHUNK = b" " * 65536


async def deliver(request: web.Request, answer: Answer) -> web.StreamResponse:
    """Send a reply the way it says."""
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
        pass  # The client has closed the connection, as it should.
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
    """Wait until the time is over or the client has closed the connection."""
    try:
        async with asyncio.timeout(seconds):
            while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    except TimeoutError:
        pass


def _reset(request: web.Request, answer: Answer) -> web.Response:
    """Reset the connection: with SO_LINGER of 0 seconds the kernel sends RST (socket(7))."""
    if (transport := request.transport) is not None:
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response(status=answer.status)
