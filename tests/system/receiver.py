"""A webhook that takes alerts and keeps what it was told.

async with listening() as receiver:
    daemon = await rig.start(WATCHER_ALERTS__URLS=receiver.url)
    await receiver.until(lambda: len(receiver.got) == 1, "the alert")
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

KEY = "aKeyInTheAddress7261"


@dataclass(frozen=True)
class Line:
    """One thing a message tells: "[wrong] the hook fails: the last 2 runs failed (since ...)", and when it came."""

    kind: str
    subject: str
    reason: str
    came_s: float

    @classmethod
    def all_of(cls, message: str) -> list["Line"]:
        """Lines with what to do about it are left out."""
        matches = re.findall(r"^\[([^\]]+)\] ([^:\n]+): (.*)$", message, re.MULTILINE)
        assert len(matches) == len(re.findall(r"^\[", message, re.MULTILINE)), f"a line of no known shape: {message}"
        return [cls(kind, subject, reason, time.monotonic()) for kind, subject, reason in matches]


class Receiver:
    """A webhook. While `broken` it answers 500; while `released` is not set it does not answer."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.lines: list[Line] = []
        self.tries = 0
        self.broken = False
        self.released = asyncio.Event()
        self.released.set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/{KEY}"

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.got]

    async def handle(self, request: web.Request) -> web.Response:
        self.tries += 1
        body = await request.json()
        await self.released.wait()
        if self.broken:
            return web.Response(status=500)
        assert request.path == f"/{KEY}"
        self.got.append(body)
        self.lines += Line.all_of(body["message"])
        return web.Response()

    async def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 30) -> float:
        """Waits for what must have come, and how long that took."""
        began_s = time.monotonic()
        while not condition():
            assert time.monotonic() - began_s < timeout_s, f"not within {timeout_s:g} s: {what}; got {self.got}"
            await asyncio.sleep(0.02)
        return time.monotonic() - began_s


@asynccontextmanager
async def listening(**state: Any) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    for name, value in state.items():
        setattr(receiver, name, value)
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        receiver.released.set()
        await runner.cleanup()
