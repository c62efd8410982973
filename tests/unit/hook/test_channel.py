"""The daemon's end of a worker's socket: its messages are read alike, whatever bytes a worker writes."""

import asyncio
import socket
import sys

import pytest

from watcher.hook import wire
from watcher.hook.channel import Channel

LIMIT = 100_000


async def taken(body: bytes) -> wire.Fields:
    """Return the message that arrives as `body`."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        channel = Channel(ours, LIMIT)
        try:
            theirs.sendall(wire.LENGTH.pack(len(body)) + body)
            assert await channel.arrives_by(asyncio.get_running_loop().time() + 5)
            return channel.take()
        finally:
            channel.close()


@pytest.mark.parametrize("reason", ["plain", "\ud800", "\x00\u2028", "\U0001f600"])
async def test_text_arrives_as_the_worker_wrote_it(reason: str) -> None:
    body = wire.pack({"run": 1 << 55, "failed": reason})[wire.LENGTH.size :]
    assert await taken(body) == {"run": 1 << 55, "failed": reason}


@pytest.mark.parametrize("body", [b"", b"[1]", b"7", b'{"a":NaN}', b"\xff", b"[" * 50_000, b'{"a":' + b"9" * 50_000])
async def test_what_is_no_object_is_a_broken_message(body: bytes) -> None:
    with pytest.raises(wire.BrokenMessage):
        await taken(body)


async def test_brackets_overflow_no_stack_under_a_raised_recursion_limit() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)  # as a library may do
    try:
        with pytest.raises(wire.BrokenMessage):
            await taken(b"[" * 99_000)
    finally:
        sys.setrecursionlimit(limit)
