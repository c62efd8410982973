"""Server-sent events: tell open pages that something has changed, so that they read themselves again.

https://html.spec.whatwg.org/multipage/server-sent-events.html. Invariants: an event holds no data but a number; the
clients are bounded, and one that takes nothing is dropped.
"""

import asyncio
from collections.abc import Hashable

from aiohttp import web

from watcher.clock import Clock
from watcher.dashboard.page_maker import HEADERS
from watcher.health.monitor import Monitor

_CLIENTS_LIMIT = 16
_EVERY_S = 1.0
_QUIET_S = 15.0
_WRITE_TIMEOUT_S = 10.0
_RETRY_MS = 5000


class Stream:
    """The events of one daemon."""

    def __init__(self, monitor: Monitor, clock: Clock) -> None:
        self._monitor = monitor
        self._clock = clock
        self._clients: set[asyncio.Task[object] | None] = set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Send an event for each change, at most one a second, until the client goes or the server stops."""
        if len(self._clients) >= _CLIENTS_LIMIT:
            return web.Response(status=503, text="too many pages are open\n", headers={"Retry-After": "60"})
        client = asyncio.current_task()
        self._clients.add(client)
        try:
            response = web.StreamResponse(
                headers={
                    **HEADERS,
                    "Content-Type": "text/event-stream",
                    "Cache-Control": "no-store",
                    "X-Content-Type-Options": "nosniff",
                }
            )
            await response.prepare(request)
            await self._send_changes(response)
        except (ConnectionError, TimeoutError):
            pass  # the client is gone, or takes nothing
        finally:
            self._clients.discard(client)
        return response

    def end(self) -> None:
        """End all streams, so that the server's stop waits for none."""
        for client in self._clients:
            if client is not None:
                client.cancel()

    async def _send_changes(self, response: web.StreamResponse) -> None:
        sent, number, sent_s = self._state(), 0, self._clock.monotonic_s()
        await self._write(response, f"retry: {_RETRY_MS}\n\n")
        while True:
            await self._clock.sleep(_EVERY_S)
            state, now_s = self._state(), self._clock.monotonic_s()
            if state != sent:
                sent, number, sent_s = state, number + 1, now_s
                await self._write(response, f"event: changed\ndata: {number}\n\n")
            elif now_s - sent_s >= _QUIET_S:
                sent_s = now_s
                await self._write(response, ": nothing has changed\n\n")

    @staticmethod
    async def _write(response: web.StreamResponse, text: str) -> None:
        await asyncio.wait_for(response.write(text.encode()), _WRITE_TIMEOUT_S)

    def _state(self) -> Hashable:
        """Return what pages show, as far as the last evaluation tells it."""
        health = self._monitor.health
        work = health.work
        marks = None if work is None else (work.cursor_block, work.head_block, work.final_block, work.open_tasks)
        conditions = tuple((each.key, each.message) for each in health.conditions)
        return health.status, conditions, marks, self._monitor.measure.last_move
