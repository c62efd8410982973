"""An HTTP server that takes JSON by POST and keeps it: a webhook of somebody else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web


class JsonReceiver:
    """The server. It answers each POST with `status`, and keeps the bodies that it took with 200."""

    def __init__(self) -> None:
        self.status = 200
        self.bodies: list[Any] = []
        self.tries = 0
        self.port = 0

    @property
    def url(self) -> str:
        """Its address, with a key in the path."""
        return f"http://127.0.0.1:{self.port}/{KEY}"

    async def handle(self, request: web.Request) -> web.Response:
        """Take one POST."""
        self.tries += 1
        assert request.path == f"/{KEY}"
        body = await request.json()
        if self.status == 200:
            self.bodies.append(body)
        location = {"Location": f"/{KEY}"} if 300 <= self.status < 400 else {}
        return web.Response(status=self.status, headers=location)


KEY = "aKeyOfTheWebhook9152"


@asynccontextmanager
async def receiving_json() -> AsyncIterator[JsonReceiver]:
    """Serve inside this block."""
    receiver = JsonReceiver()
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        await runner.cleanup()
