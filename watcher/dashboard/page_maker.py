"""Pages as responses: read and rendered in threads, a few at a time.

Invariant: the event loop, which answers tasks, makes no page. What waits beyond a limit is refused.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web
from sqlalchemy import Connection

from watcher.clock import Clock
from watcher.dashboard.gate import Visitor
from watcher.dashboard.view import DashboardPlan, Page, View
from watcher.errors import FixUsage, TryLater
from watcher.files import program_version
from watcher.health.access import Access
from watcher.health.monitor import Monitor

# Pages made at the same time, and those that wait for their turn.
_PAGES_AT_ONCE = 2
_WAITING_LIMIT = 32
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    # "no-referrer" would make browsers send `Origin: null` with the forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}

MakePage = Callable[[View], Page]


class PageMaker:
    """Makes the pages of one daemon."""

    def __init__(
        self,
        plan: DashboardPlan,
        monitor: Monitor,
        access: Access,
        clock: Clock,
        next_probe_s: Callable[[], float | None],
    ) -> None:
        """Take what the pages are made from; `next_probe_s` returns the seconds until an API is tried again."""
        self._plan = plan
        self._monitor = monitor
        self._access = access
        self._clock = clock
        self._next_probe_s = next_probe_s
        self._room = asyncio.Semaphore(_PAGES_AT_ONCE)
        self._waiting = 0

    async def page(self, make: MakePage, query: Mapping[str, str], who: Visitor, here: str) -> web.Response:
        """Return the page that `make` makes from one reading of the ledger.

        Args:
            make: called in a thread. FixUsage becomes a page with status 404.
            query: the query string.
            who: the visitor.
            here: the part of the navigation that the page belongs to.
        """
        began_s = self._clock.monotonic_s()

        def made(conn: Connection, source_id: int) -> tuple[int, str]:
            page = make(self._view(conn, source_id, query))
            return page.status, self._html(page, who, here)

        try:
            status, html = await self._read(made)
        except FixUsage as error:
            return await self.message(who, 404, str(error), here)
        except TryLater as error:
            return await self.message(who, 503, str(error), here)
        return _html_response(status, html, self._clock.monotonic_s() - began_s)

    async def message(self, who: Visitor, status: int, text: str, here: str = "") -> web.Response:
        """Return a page with one message, made without the ledger."""
        return await self.plain(Page("message.html", {"text": text, "code": status}, status), who, here)

    async def plain(self, page: Page, who: Visitor, here: str = "") -> web.Response:
        """Return a page that needs no ledger."""
        began_s = self._clock.monotonic_s()
        html = await asyncio.to_thread(self._html, page, who, here)
        return _html_response(page.status, html, self._clock.monotonic_s() - began_s)

    async def story(self, index: int) -> web.Response:
        """Return the stories of the tasks at an index, as `watcher explain --json` prints them."""

        def as_json(conn: Connection, source_id: int) -> str:
            from watcher.dashboard.task import stories  # late, as all pages are

            return json.dumps([story.as_json() for story in stories(self._view(conn, source_id, {}), index)], indent=2)

        try:
            text = await self._read(as_json)
        except FixUsage as error:
            return web.json_response({"message": str(error)}, status=404)
        except TryLater as error:
            return web.json_response({"message": str(error)}, status=503)
        return web.Response(text=text + "\n", content_type="application/json", headers=HEADERS)

    async def _read(self, question: Callable[[Connection, int], Any]) -> Any:
        """Answer a question in a thread. Raises TryLater without a ledger, and while too many others wait."""
        ledger = self._monitor.ledger
        if ledger is None:
            raise TryLater("the watcher is starting, and its ledger is not open yet; see /readyz")
        if self._waiting >= _WAITING_LIMIT:
            raise TryLater("too many pages are asked for at the same time")
        self._waiting += 1
        try:
            async with self._room:
                return await ledger.read(question, ledger.source_id)
        finally:
            self._waiting -= 1

    def _view(self, conn: Connection, source_id: int, query: Mapping[str, str]) -> View:
        health, now_ms = self._monitor.health, self._clock.now_ms()
        return View(conn, source_id, self._plan, health, self._next_probe_s(), now_ms, query)

    def _html(self, page: Page, who: Visitor, here: str) -> str:
        from watcher.dashboard.rendering import render  # late: the first page loads the engine of the templates

        shell = {
            "plan": self._plan,
            "health": self._monitor.health,
            "stuck": self._monitor.stuck,
            "now_ms": self._clock.now_ms(),
            "here": here,
            "who": who,
            # Whoever may read nothing learns nothing from the frame of the login either.
            "may_read": who.is_known or self._access.reading_is_open,
            "has_token": self._access.has_token,
            "version": program_version(),
        }
        return render(page.template, {**shell, **page.values})


def _html_response(status: int, html: str, took_s: float) -> web.Response:
    headers = {**HEADERS, "Server-Timing": f"page;dur={took_s * 1000:.1f}"}
    return web.Response(status=status, text=html, content_type="text/html", charset="utf-8", headers=headers)
