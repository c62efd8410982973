"""The service level of the last day, week or month, as a page and as files to keep.

A report reads every task of its time: that takes longer than a page may. So it is made beside the pages, one at a time,
kept for a minute, and refused where it would take the interpreter from the loop that answers tasks for too long.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from watcher.clock import Clock
from watcher.dashboard.gate import Visitor
from watcher.dashboard.page_maker import HEADERS, PageMaker
from watcher.dashboard.view import DashboardPlan, Page
from watcher.errors import TryLater
from watcher.health.monitor import Monitor
from watcher.ledger.reader import Reader

_HOUR_MS = 3_600_000
# The time of a report and the step of its plots, in hours.
RANGES = {"24h": (24, 1), "7d": (168, 24), "30d": (720, 24)}
_DEFAULT = "24h"
# Half a second of work. `watcher report` in a process of its own has no limit.
TASKS_LIMIT = 10_000
_KEPT_S = 60.0
_PATIENCE_S = 0.15
_FILE = "service-level-{}.{}"


@dataclass(frozen=True, slots=True)
class Report:
    """A report: what the page shows, and the same as an HTML file. `too_many`: more tasks than a page may read."""

    made_s: float
    values: dict[str, Any]
    html: str = ""
    too_many: int | None = None


class Reports:
    """The reports of one daemon."""

    def __init__(self, plan: DashboardPlan, monitor: Monitor, clock: Clock, maker: PageMaker) -> None:
        self._plan = plan
        self._monitor = monitor
        self._clock = clock
        self._maker = maker
        self._made: dict[str, Report] = {}
        self._making: dict[str, asyncio.Task[Report]] = {}
        self._lock = asyncio.Lock()

    async def page(self, request: web.Request, who: Visitor) -> web.StreamResponse:
        """Answer with the report of a time, or with a page that asks again while it is made."""
        since = _range(request)
        values: dict[str, Any] = {"since": since, "ranges": list(RANGES), "report": None, "too_many": None}
        try:
            made = await self._report(since)
        except TryLater as error:
            return await self._maker.message(who, 503, str(error), "reports")
        if made is not None:
            values |= {**made.values, "too_many": made.too_many}
        return await self._maker.plain(Page("reports.html", values), who, "reports")

    async def file(self, request: web.Request, who: Visitor) -> web.StreamResponse:
        """Answer with the report of a time as one HTML file, or as JSON."""
        since, kind = _range(request), request.match_info["kind"]
        try:
            made = await self._report(since)
        except TryLater as error:
            return await self._maker.message(who, 503, str(error), "reports")
        if made is None or made.too_many is not None:
            response = web.Response(status=503, text="the report is not made; see /reports\n", headers=HEADERS)
            response.headers["Retry-After"] = "2"
            return response
        is_html = kind == "html"
        text = made.html if is_html else json.dumps(made.values["report"], indent=2) + "\n"
        name = _FILE.format(since, kind)
        return web.Response(
            text=text,
            content_type="text/html" if is_html else "application/json",
            headers={**HEADERS, "Content-Disposition": f'attachment; filename="{name}"'},
        )

    async def _report(self, since: str) -> Report | None:
        """Return the report of a time, None while it is made. Raises TryLater."""
        made, now_s = self._made.get(since), self._clock.monotonic_s()
        if made is not None and now_s - made.made_s < _KEPT_S:
            return made
        making = self._making.get(since)
        if making is None:
            making = self._making[since] = asyncio.create_task(self._make(since), name=f"report {since}")
        done, _ = await asyncio.wait({making}, timeout=_PATIENCE_S)
        if not done:
            return None
        self._making.pop(since, None)
        return making.result()

    async def _make(self, since: str) -> Report:
        async with self._lock:
            ledger = self._monitor.ledger
            if ledger is None:
                raise TryLater("the watcher is starting, and its ledger is not open yet; see /readyz")
            values = await asyncio.to_thread(self._values, ledger.reader, ledger.source_id, since)
            made = Report(self._clock.monotonic_s(), *values)
            self._made[since] = made
            return made

    def _values(self, reader: Reader, source_id: int, since: str) -> tuple[dict[str, Any], str, int | None]:
        # Late: a daemon whose reports nobody reads does not load them.
        from watcher.ledger.service_level import tasks_within
        from watcher.report.service_level_page import page, plots_of
        from watcher.report.service_report import service_report

        hours, step_hours = RANGES[since]
        now_ms = self._clock.now_ms()
        since_ms = now_ms - hours * _HOUR_MS
        count = reader.read_now(tasks_within, source_id, since_ms, now_ms, TASKS_LIMIT + 1)
        if count > TASKS_LIMIT:
            return {}, "", TASKS_LIMIT
        report = service_report(reader, source_id, since_ms, now_ms, step_hours * _HOUR_MS, now_ms)
        values = {"report": report.document, "plots": plots_of(report.level, report.parts)}
        return values, page(report.document, report.level, report.parts), None


def _range(request: web.Request) -> str:
    asked = request.query.get("since", _DEFAULT)
    return asked if asked in RANGES else _DEFAULT
